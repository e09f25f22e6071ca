"""Licences of the released weights that open_clip's tags name, as far as they were looked up."""

import open_clip

APPLES = "Apple's: for research only"
_NOT_COMMERCIAL = "CC-BY-NC-4.0: not for commercial use"
RESTRICTED = (APPLES, _NOT_COMMERCIAL)
"""Terms under which weights are not for every use."""
_BY_OWNER = {
    "apple": APPLES,
    "laion": "MIT",  # LAION's, DataComp's and CoCa's
    "UCSC-VLAA": "Apache-2.0",  # CLIPA
    "jienengchen": "MIT",  # ViTamin
    "visheratin": _NOT_COMMERCIAL,  # NLLB-CLIP
}
_BY_TAG = {
    "openai": "MIT",
    "laion400m_e31": "MIT",
    "laion400m_e32": "MIT",
    "laion400m_s11b_b41k": "MIT",  # EVA, as all down to the next name
    "merged2b_s11b_b114k": "MIT",
    "merged2b_s8b_b131k": "MIT",
    "merged2b_s4b_b131k": "MIT",
    "merged2b_s6b_b61k": "MIT",
    "laion2b_s4b_b115k": "MIT",
    "laion2b_s9b_b144k": "MIT",
    "webli": "Apache-2.0",  # SigLIP, SigLIP 2
    "meta": "Apache-2.0",  # PE-Core
    "metaclip_400m": _NOT_COMMERCIAL,
    "metaclip_fullcc": _NOT_COMMERCIAL,
    "dfndr2b": APPLES,  # MobileCLIP 2
}
"""Of weights that timm's account holds for others.

Sources, of November 2026: the pages of the weights on the hub (of several of each owner, not of
every one) and the authors' repositories: OpenAI, EVA, MetaCLIP, Perception Models.
"""


def licence(arch: str, tag: str) -> str:
    """The licence of released weights, or where to look it up.

    It was looked up by family; what binds is what lies beside the weights.
    """
    repository = str(open_clip.get_pretrained_cfg(arch, tag).get("hf_hub", "")).strip("/")
    terms = _BY_OWNER.get(repository.partition("/")[0]) or _BY_TAG.get(tag, "unknown")
    return f"licence: {terms} (see {repository or 'where they lie'})"
