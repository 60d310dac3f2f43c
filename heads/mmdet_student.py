"""Old names of the modules in `heads.mmdet.registered`, so that MMDetection configs exported with them still load.

Those configs name this module first in their `custom_imports`, and the other names after it.
"""

import sys

from heads.mmdet.registered import float32_hook, loading, optim, prompt_roi_head

sys.modules["heads.mmdet_float32"] = float32_hook
sys.modules["heads.mmdet_loading"] = loading
sys.modules["heads.mmdet_optim"] = optim
sys.modules["heads.prompt_roi_head"] = prompt_roi_head
