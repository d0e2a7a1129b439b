"""The methods of the comparison, a file each.

cjme            the dominant one of two tracks decides
avgzslnet       class texts are rebuilt from each track
avca            attention between both tracks; ranks by the visual one
hyper_multiple  AVCA, with the cosines of both tracks aligned
clip_clap       the baseline, and with the terms of `ahse` the method of this project
ahse            Eq. 2 to 5 of AHSE, and this project's additions to them
track_features  residual adapters and quality weights, which CLIP-CLAP's networks may begin with
ez_avood        a classifier for clips of seen classes, CLIP-CLAP for the others
hsp_moe         CLIP-CLAP on the unit sphere, with a mixture of experts
terms           what several methods have in their losses
"""

from typing import Final

from model_export.head.head_config import HeadConfig, MethodName
from model_export.head.methods.avca import Avca
from model_export.head.methods.avgzslnet import AvgzslNet
from model_export.head.methods.cjme import Cjme
from model_export.head.methods.clip_clap import ClipClap
from model_export.head.methods.ez_avood import EzAvood
from model_export.head.methods.hsp_moe import HspMoe
from model_export.head.methods.hyper_multiple import HyperMultiple
from model_export.head.network import HeadNetwork

METHODS: Final[dict[MethodName, type[HeadNetwork]]] = {
    "cjme": Cjme,
    "avgzslnet": AvgzslNet,
    "avca": Avca,
    "hyper_multiple": HyperMultiple,
    "clip_clap": ClipClap,
    "ez_avood": EzAvood,
    "hsp_moe": HspMoe,
}


def make_network(config: HeadConfig, n_visual: int, n_audio: int, n_seen: int = 0) -> HeadNetwork:
    """The networks of the configured method, with weights drawn from torch's generator.

    Args:
        config: What is trained and how.
        n_visual: Dimensions of the visual and the visual text features.
        n_audio: Dimensions of the audio and the audio text features.
        n_seen: Classes of the classifier, for a method that has one.
    """
    network = METHODS[config.method](config, n_visual, n_audio)
    network.add_classifier(n_seen)
    return network
