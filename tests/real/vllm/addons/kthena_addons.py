"""A vLLM plugin: what engines need in order to run side by side on a small machine without an accelerator.

vLLM calls `load` in each of its processes, because `install.rs` registers it under the entry point group
`vllm.general_plugins` in a folder that only these engines have on their path.
"""

import os
import time

# As long as a small engine can wait without anybody noticing.
PAUSE_SECONDS = 0.0005


def load():
    # Processes of an engine wait for each other by yielding in a loop. With fewer cores than such processes, the loops take
    # the time that the other engine of a pair needs: a request then takes half a minute.
    os.sched_yield = lambda: time.sleep(PAUSE_SECONDS)

    # The Mooncake connector asks for the number of the accelerator it runs on, and selects it in its threads.
    import torch
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        torch.accelerator.current_device_index = lambda: 0
        type(current_platform).set_device = classmethod(lambda cls, device: None)
