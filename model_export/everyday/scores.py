"""Numbers of the everyday bundle that were fitted on labelled clips, and what was measured of it.

Temperatures and the measure of unknown are fitted on the 29 development clips, over lists of 26 to 1,000
names together, by `python -m benchmarks.fit_scores CLIPS --lists 100 300 1000`. How the weights of the parts
and of the tracks were chosen stands in docs/results/everyday/README.md.
"""

from __future__ import annotations

from service.bundle.manifest import SimilarityScore, SimilarityScores
from service.bundle.provenance import Metric

VISUAL_LOGIT_SCALE = 18.4
AUDIO_LOGIT_SCALE = 15.6
VISUAL_SHARE = 0.61
"""With both scales: 0.65 of the cosine by the picture, 0.35 by the sound."""

SCORES = SimilarityScores(
    both=SimilarityScore(temperature=0.66, unknown_threshold=6.6, unknown_slope=0.25, unknown_scale=2.8),
    visual=SimilarityScore(temperature=0.95, unknown_threshold=7.7, unknown_slope=0.3, unknown_scale=4.3),
    audio=SimilarityScore(temperature=0.76, unknown_threshold=4.4, unknown_slope=0.52, unknown_scale=3.1),
)

KNOWN_THRESHOLD = 0.38

METRICS = (
    Metric(name="top-1, both tracks", value=24, unit="count", data="29 development clips, their 26 names"),
    Metric(
        name="top-1, both tracks",
        value=15,
        unit="count",
        data="29 development clips, 321 names with VGGSound's",
    ),
    Metric(
        name="top-1, both tracks", value=60, unit="count", data="87 stamps made into clips, their 84 names"
    ),
)
