"""From Complex to Simple (He et al., 2024, "From Complex to Simple: Enhancing Multi-Constraint Complex
Instruction Following Ability of Large Language Models").

Constraints that code can check are composed onto seed prompts; the student answers (*vanilla*), the teacher
answers (*generation*), and failing student answers are corrected by the teacher one violated constraint at a
time (*discrimination*). The paper trains SFT on the corrected answers and DPO with an SFT term on pairs
(corrected, uncorrected).

Upstream never looks at a correction again, and 65 % of its "corrected" answers still break a constraint, 19 %
of the constraints that held were broken on the way. Here every revision is re-checked at once, is accepted only
if it fixes its constraint and breaks none, and only a text that passes everything is emitted as good.

Without a teacher the same stages are best-of-n self-alignment: the student's own verified answers, against its
own failing ones.
"""

from __future__ import annotations

from functools import partial

from if_factory.methods.base import Method
from if_factory.methods.complex_to_simple.emit import emit
from if_factory.methods.complex_to_simple.options import NAME, PRESETS, Options
from if_factory.methods.complex_to_simple.plan import plan
from if_factory.methods.complex_to_simple.steps import compose_prompts, correct, respond
from if_factory.methods.complex_to_simple.training import TRAINING
from if_factory.pipeline.stage import Stage


def stages(options: Options) -> list[Stage]:
    return [Stage("compose", partial(compose_prompts, options=options)),
            Stage("respond", partial(respond, options=options)),
            Stage("correct", partial(correct, options=options))]


METHOD = Method(
    name=NAME,
    summary="checkable constraints composed onto seeds; answers verified, corrected one constraint at a time",
    roles={"student": (True, "the model you will train; its answers are checked, corrected or rejected"),
           "teacher": (False, "a stronger model that corrects; without one the run is best-of-n self-alignment")},
    options=Options, presets=PRESETS, preset_training=TRAINING, stages=stages, emit=emit, plan=plan,
    difficulty="number of constraints on the prompt",
    needs={"teacher_samples": ("teacher", None), "keywords": ("teacher", "teacher")},
    training={"dpo": {"pref_beta": 0.1, "pref_ftx": 1.0}})
