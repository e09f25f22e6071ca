"""A Stable Diffusion 3 of some ten thousand random weights, in the folder layout of diffusers."""

import string
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models import AutoencoderKL, SD3Transformer2DModel
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import (
    StableDiffusion3Pipeline,
)
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)


def save_tiny_sd3(folder: Path) -> None:
    """Writes the checkpoint; the same bytes each time. Letters are its only tokens."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = _pipeline()
    pipeline.save_pretrained(folder)


def _pipeline() -> StableDiffusion3Pipeline:
    clip_tokens = clip_tokenizer()
    t5_tokens = T5Tokenizer(
        vocab=[(piece, -2.0) for piece in ("<pad>", "</s>", "<unk>", "▁", *string.ascii_letters)],
        extra_ids=0,
    )
    transformer = SD3Transformer2DModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=48,
        caption_projection_dim=16,
        pooled_projection_dim=32,
        pos_embed_max_size=8,
        qk_norm="rms_norm",
    )
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        latent_channels=4,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        shift_factor=0.06,
        scaling_factor=1.5,
    )
    t5 = T5EncoderModel(
        T5Config(vocab_size=len(t5_tokens), d_model=48, d_kv=8, d_ff=32, num_layers=1, num_heads=2)
    )
    return StableDiffusion3Pipeline(
        transformer=transformer.eval(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae.eval(),
        text_encoder=clip_text(clip_tokens).eval(),
        tokenizer=clip_tokens,
        text_encoder_2=clip_text(clip_tokens).eval(),
        tokenizer_2=clip_tokens,
        text_encoder_3=t5.eval(),
        tokenizer_3=t5_tokens,
    )


def clip_tokenizer() -> CLIPTokenizer:
    """Every byte is a token, inside a word and at its end."""
    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)}, merges=[], model_max_length=77
    )


def clip_text(tokens: CLIPTokenizer) -> CLIPTextModelWithProjection:
    return CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=len(tokens),
            bos_token_id=tokens.bos_token_id,
            eos_token_id=tokens.eos_token_id,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            projection_dim=16,
        )
    )
