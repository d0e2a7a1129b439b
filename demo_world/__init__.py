"""The demo world: made-up clips of drawn shapes and synthetic sounds, and the bundle that is trained on them.

Not part of the wheel: `python -m demo_world` runs in a checkout, with the training packages installed.

From the bottom up: `world` says what there is; `outlines`, `drawing`, `timbre` and `soundtrack` make its
pictures and sounds; `recording` makes clips of them, `clip_folders` and `corpus` many. `captions`,
`encoders`, `augment` and `training` make a tiny CLIP and CLAP; `build` makes the bundle, which
`evaluate` measures; both keep clips in a `work_folder`.
"""
