"""Layouts ``table1`` … ``table9``, ``autoencoder``: tables of Sankar & Balasubramanian (2017).

A. R. Sankar, V. N. Balasubramanian, "Are Saddles Good Enough for Deep Learning?",
arXiv:1706.02052. Each number is a mean and a standard deviation over 8 trials, accuracies in per
cent; None where the paper's table is empty or gives no deviation. The paper counts signs of
eigenvalues without a tolerance; with its zeros, which are the eigenvalues that came out as 0.0
exactly, its tables add up to the number of parameters or nearly so.
"""

from __future__ import annotations

from functools import partial

from hessscope.reports.layouts.published import CIFAR10, MNIST, PublishedTable

_SAME = {
    "Adam": ("adam",),
    "Adagrad": ("adagrad",),
    "Normal": ("normal",),
    "Orthogonal": ("orthogonal",),
    "Momentum": ("momentum", "nesterov", "sgdmomentum", "nesterovmomentum"),
    "Noisy SGD": ("noisysgd",),
    "Saddle-free Newton": ("saddlefreenewton", "sfn", "krylovsfn", "krylovsaddlefreenewton"),
    "He": ("he", "henormal", "heuniform", "kaimingnormal", "kaiminguniform"),
    "Xavier": ("xavier", "xaviernormal", "xavieruniform", "glorotnormal", "glorotuniform"),
}
_NAMES = {name: title for title, names in _SAME.items() for name in names}
_FEATURES = (
    "CIFAR-10 in the paper: 256 features from a wide residual network, not images; "
    "n is printed as 6,685 and as 6,695, and 256-25-10 has 6,685 parameters"
)
_table = partial(
    PublishedTable,
    paper=("the 2017 paper", "Sankar & Balasubramanian 2017, arXiv:1706.02052", 8),
    names=_NAMES,
    remarks_on={CIFAR10: (_FEATURES,)},
)

_CROSS_ENTROPY = (
    "the paper's text says cross-entropy and Nesterov momentum, its published code takes the mean "
    "squared error of the softmax outputs and classical momentum"
)

table1 = _table(
    "table 1",
    "Signs of the Hessian's eigenvalues after training, MNIST, 784-25-10",
    "optimizer",
    ("positive", "negative", "accuracy"),
    {
        (MNIST, "Momentum"): ((15877, 17), (2383, 16), (96.35, 0.02)),
        (MNIST, "Adam"): ((15958, 80), (2274, 80), (96.04, 0.02)),
        (MNIST, "Adagrad"): ((15136, 23.76), (3123, 23.79), (95, 0.06)),
    },
    (
        _CROSS_ENTROPY,
        "Adam's accuracy is printed as 96 ± 04 there; shown is that of the paper's table 3",
    ),
)
table2 = _table(
    "table 2",
    "Signs of the Hessian's eigenvalues after training, CIFAR-10, 256-25-10",
    "optimizer",
    ("positive", "negative", "accuracy"),
    {
        (CIFAR10, "Momentum"): ((6063, 164), (410, 86), (95.02, 0.04)),
        (CIFAR10, "Adam"): ((4701, 314), (1515, 223), (96.04, 0.02)),
        (CIFAR10, "Adagrad"): ((6242, 114), (272, 44), (94.94, 0.064)),
    },
)
table3 = _table(
    "table 3",
    "Degeneracy after training, by optimiser",
    "optimizer",
    ("zero", "negative", "accuracy"),
    {
        (MNIST, "Momentum"): ((1620, 8), None, (96.35, 0.02)),
        (MNIST, "Adam"): ((1625, 2), (2274, 80), (96.04, 0.02)),
        (MNIST, "Adagrad"): ((1625, 6), (3123, 23.79), (95, 0.06)),
        (CIFAR10, "Momentum"): (None, None, None),
        (CIFAR10, "Adam"): (None, None, (95.04, 0.02)),
        (CIFAR10, "Adagrad"): ((170, 22), (272, 44), (94.94, 0.06)),
    },
    (
        "cells without a number could not be read in the paper; its tables 1 and 2 have the "
        "negative counts of the same runs",
    ),
)
table5 = _table(
    "table 5",
    "Where noisy SGD ends",
    "optimizer",
    ("positive", "zero", "negative", "accuracy"),
    {
        (MNIST, "Noisy SGD"): ((15546, 77), (1625, 3), (2713, 77), (96.47, 0.14)),
        (CIFAR10, "Noisy SGD"): ((6200, 103), (51, 6), (357, 29), (94.99, 0.03)),
    },
    remarks_on={
        MNIST: ("the paper's counts of MNIST add up to 19,884 of 19,885",),
        CIFAR10: ("the paper's counts of CIFAR-10 add up to 6,608 of 6,685", _FEATURES),
    },
)
table7 = _table(
    "table 7",
    "Degeneracy after training, by initialisation (SGD with momentum)",
    "initialization",
    ("zero", "accuracy"),
    {
        (MNIST, "He"): ((1625, None), (96.02, 0.1)),
        (MNIST, "Normal"): ((1625, None), (96.15, 0.07)),
        (MNIST, "Xavier"): ((1529, 9), (96.21, 0.2)),
        (MNIST, "Orthogonal"): ((1571, 11), (96.07, 0.03)),
        (CIFAR10, "He"): ((576, 210), (94.92, 0.09)),
        (CIFAR10, "Normal"): ((423, 111), (95.02, 0.04)),
        (CIFAR10, "Xavier"): ((403.5, 113), (95.01, 0.10)),
        (CIFAR10, "Orthogonal"): ((542, 218), (94.99, 0.07)),
    },
)
table8 = _table(
    "table 8",
    "Degeneracy after training, by depth",
    "architecture",
    ("zero", "accuracy"),
    {
        (MNIST, "784-25-25-10"): ((1847, 63), (95.97, 0.02)),
        (MNIST, "784-25-25-25-10"): ((2119, 17), (96.06, 0.04)),
        (CIFAR10, "256-25-25-10"): ((96.5, 25), (95.03, 0.07)),
        (CIFAR10, "256-25-25-25-10"): ((216, 44), (95.85, 0.08)),
    },
    remarks_on={
        MNIST: (
            "n is printed as 20,525 and 21,150 for the MNIST networks; they have 20,535 and 21,185",
        ),
        CIFAR10: (_FEATURES,),
    },
)
table9 = _table(
    "table 9",
    "Accuracy after training, by width",
    "architecture",
    ("accuracy",),
    {
        (MNIST, "784-500-10"): (None,),
        (MNIST, "784-250-10"): ((97.78, 0.13),),
        (MNIST, "784-100-10"): ((97.62, 0.16),),
        (MNIST, "784-50-10"): ((97.03, 0.16),),
        (CIFAR10, "256-500-10"): (None,),
        (CIFAR10, "256-250-10"): ((95.07, 0.08),),
        (CIFAR10, "256-100-10"): ((95.03, 0.02),),
        (CIFAR10, "256-50-10"): ((95.01, 0.02),),
    },
    ("cells without a number could not be read in the paper",),
)
autoencoder = _table(
    "section 5",
    "Where saddle-free Newton ends: autoencoder, MNIST, 784-10-784, n = 16,474 (section 5)",
    "optimizer",
    ("zero",),
    {(MNIST, "Saddle-free Newton"): ((1625, None),)},
    ("the paper gives the number as approximate, without a deviation",),
)
