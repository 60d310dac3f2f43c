"""Builds and initialises parts of MMDetection."""

from typing import Any

from heads.mmdet.mmcv_ops import ensure_mmcv_ops


def build(config: dict[str, Any]) -> Any:
    """Builds a part of a detector and initialises its weights by its `init_cfg`.

    MMEngine's scope, logging and process settings are left as they were.

    Args:
        config: The part in MMDetection's notation: `type` and keyword arguments.

    Raises:
        UserError: mmcv is absent or does not load.
        Exception: MMDetection refuses the configuration, by one of many classes.
    """
    ensure_mmcv_ops()
    from mmdet.registry import MODELS
    from mmengine.config import ConfigDict
    from mmengine.logging import MMLogger
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope("mmdet"):
        module = MODELS.build(ConfigDict(config))
    # Initialising prints one paragraph per parameter, unless the logger is off.
    logger = MMLogger.get_current_instance()
    disabled, logger.disabled = logger.disabled, True
    try:
        module.init_weights()
    finally:
        logger.disabled = disabled
    return module
