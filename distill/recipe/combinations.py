"""Combinations of recipes and overrides that have a name, for published and measured runs.

`distill fit finetune/nwpu_mask_rcnn` does what `distill fit finetune/mask_rcnn data/nwpu` does, and writes to
`runs/nwpu_mask_rcnn`. Earlier versions had a file for each, whose path (`recipes/finetune/nwpu_mask_rcnn.yaml`) stays
valid.
"""

_BASE = ("rs4d_small", "--model.student.variant=base", "--trainer.precision=bf16-mixed")
_METHOD = ("rs4d_small", "method/rs4d_reconstruction", *_BASE[1:])  # RS4D's own, as far as it is known
_CASCADE = ("--model.head=heads.CascadeMaskRCNN",)


def _corruption(noise: float, mask: float, *others: str) -> tuple[str, ...]:
    return (*_METHOD, f"--model.corruption.noise={noise}", f"--model.corruption.mask={mask}", *others)


# Name: what it stands for, recipes first, then overrides.
COMBINATIONS: dict[str, tuple[str, ...]] = {
    "rs4d_base": _BASE,
    "rs4d_tiny_cpu": ("rs4d_small", "size/cpu_rs4d"),
    "dinov2_to_lale_cpu": (
        "dinov2_to_lale",
        "size/cpu_lale",
        "--model.teacher.name=vit_small_patch14_dinov2.lvd142m",
    ),
    "cnn_to_lale_cpu": ("cnn_to_lale", "size/cpu_lale", "--model.teacher.name=convnext_tiny.dinov3_lvd1689m"),
    "sam_to_efficientvit_sam_cpu": ("sam_to_efficientvit_sam", "size/cpu_efficientvit_sam"),
    "ablation/noise_0_mask_0": _corruption(0.0, 0.0),
    "ablation/noise_0_mask_10": _corruption(0.0, 0.1),
    "ablation/noise_10_mask_0": _corruption(0.1, 0.0),
    "ablation/noise_20_mask_20": _METHOD,
    "ablation/noise_30_mask_30": _corruption(0.3, 0.3),
    "ablation/linear": _corruption(0.3, 0.3, "--model.corruption.control=linear"),
    "ablation/cosine": _corruption(0.3, 0.3, "--model.corruption.control=cosine"),
    "ablation/adaptive": _corruption(0.3, 0.3, "--model.corruption.control=adaptive", "--model.corruption.goal=0.75"),
    "ablation/plateau": _corruption(0.3, 0.3, "--model.corruption.control=plateau"),
    "ablation/signal_noise": _corruption(0.2, 0.2, "--model.corruption.noise_scale=signal"),
    "ablation/blocks": _corruption(0.2, 0.2, "--model.corruption.mask_shape=block"),
    "ablation/guided_high": _corruption(0.2, 0.2, "--model.corruption.guide=high"),
    "ablation/guided_low": _corruption(0.2, 0.2, "--model.corruption.guide=low"),
    "demo/distilled": ("demo/scratch", "--model.student.checkpoint=runs/demo/distill/student.safetensors"),
    "demo/random": ("demo/scratch", "--model.student.frozen_layers=6", "--run.reference=random"),
    "demo/all_labels": (
        "demo/scratch",
        "--data.train_images=runs/demo/data/teacher/images",
        "--data.train_annotations=runs/demo/data/teacher/annotations.json",
        "--trainer.max_steps=1000",
        "--trainer.val_check_interval=1000",
        "--run.reference=all-labels",
    ),
    "finetune/nwpu_mask_rcnn": ("finetune/mask_rcnn", "data/nwpu"),
    "finetune/nwpu_mask_rcnn_cpu": ("finetune/mask_rcnn", "data/nwpu", "size/cpu"),
    "finetune/nwpu_cascade": ("finetune/mask_rcnn", "data/nwpu", *_CASCADE),
    "finetune/nwpu_cascade_cpu": ("finetune/mask_rcnn", "data/nwpu", "size/cpu", *_CASCADE),
    "finetune/nwpu_mask_rcnn_light": ("finetune/mask_rcnn", "data/nwpu", "head/light"),
    "finetune/nwpu_cascade_light": ("finetune/mask_rcnn", "data/nwpu", "head/light", *_CASCADE),
    "finetune/nwpu_prompt": ("finetune/prompt", "data/nwpu"),
    "finetune/nwpu_prompt_cpu": ("finetune/prompt", "data/nwpu", "size/cpu_prompt"),
    "finetune/ssdd_mask_rcnn": ("finetune/mask_rcnn", "data/ssdd"),
    "finetune/ssdd_mask_rcnn_cpu": ("finetune/mask_rcnn", "data/ssdd", "size/cpu"),
    "finetune/ssdd_cascade": ("finetune/mask_rcnn", "data/ssdd", *_CASCADE),
    "finetune/ssdd_cascade_cpu": ("finetune/mask_rcnn", "data/ssdd", "size/cpu", *_CASCADE),
    "finetune/ssdd_prompt": ("finetune/prompt", "data/ssdd"),
    "finetune/ssdd_prompt_cpu": ("finetune/prompt", "data/ssdd", "size/cpu_prompt"),
    "finetune/whu_mask_rcnn": ("finetune/mask_rcnn", "data/whu"),
    "finetune/whu_mask_rcnn_cpu": ("finetune/mask_rcnn", "data/whu", "size/cpu"),
    "finetune/whu_cascade": ("finetune/mask_rcnn", "data/whu", *_CASCADE),
    "finetune/whu_cascade_cpu": ("finetune/mask_rcnn", "data/whu", "size/cpu", *_CASCADE),
    "finetune/whu_prompt": ("finetune/prompt", "data/whu", "--data.batch_size=4"),
    "finetune/whu_prompt_cpu": ("finetune/prompt", "data/whu", "size/cpu_prompt"),
    "landcover/lale_s1_cpu": ("landcover/lale_s1", "data/dubai"),
    "landcover/efficientvit_b0_cpu": ("landcover/lale_s1", "landcover/efficientvit_b0", "data/dubai"),
    "landcover/resnet18_upernet_cpu": ("landcover/lale_s1", "landcover/resnet18_upernet", "data/dubai"),
    "landcover/resnet50_cpu": ("landcover/lale_s1", "landcover/resnet50", "data/dubai"),
    "landcover/lale_s1_from_cnn_cpu": ("landcover/lale_s1", "landcover/soft_targets", "data/dubai"),
}


def command(name: str) -> str:
    """The command that fits a combination."""
    return f"distill fit {' '.join(COMBINATIONS[name])}"
