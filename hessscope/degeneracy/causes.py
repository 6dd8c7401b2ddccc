"""What makes eigenvalues zero, by name, in the order in which directions are attributed."""

ORDER = (
    (DEAD_INPUTS := "dead inputs x units"),
    (INACTIVE_UNITS := "weights of inactive units"),
    (UNMET_PAIRS := "input–unit pairs that never meet"),
    (OTHER_ZERO_ROWS := "other zero rows"),
    (DEPENDENT_INPUTS := "dependent inputs"),
    (SOFTMAX_SHIFT := "softmax shifts"),
    (LAYER_NORM_SHIFT := "layer-norm shifts"),
    (KEY_BIAS := "key biases of attention"),
    (SUMMED_BIASES := "biases that add up"),
    (RESCALING := "rescalings of units"),
    (BATCH_NORM := "batch-norm rescalings"),
    (LAYER_NORM_SCALE := "layer-norm scales"),
    (LINEAR_GAUGE := "gauge directions of adjacent linear layers"),
    (ATTENTION_GAUGE := "gauge directions of attention"),
    (DUPLICATES := "differences of duplicated units"),
    (GAUSS_NEWTON_RANK := "by the rank of the Gauss–Newton part"),
)
