"""The command line of hessscope."""
