"""The meaning of a config: each subtree is the keyword arguments of one callable, resolved before anything
runs.

    dictionary -> dictionaries.make      objective -> objectives.make      rule -> rules.make
    learner    -> learners.make          stream    -> streams.make         model -> lm.load
    harvest    -> the recipe of a harvest evaluate -> evaluate.measure     mesh  -> sharding.mesh
    start      -> warm_start              models   -> LABEL: lm.load       meters -> NAME: meters.make
    revive     -> rules.make, a rule that wraps the rule of `rule`: adapt_bias, resample, reanimate, redraw;
                  by default the rule that wraps the variant (`wrapped_by`), if any
    sweep      -> lists of values for arguments of dictionary, objective, rule, revive and learner, `seed` or
                  `steps`; names with commas between them vary together (cells.py)
    budget     -> the most FLOPs, hours and bytes of a device, which `dictlearn plan` compares and train keeps
    members    -> NAME: subtrees that replace or extend the ones above; all are trained on the same batches

A swept argument is addressed by its subtree, `{"rule": {"lr": (...)}}` or `{"rule.lr": (...)}`; its name
alone is enough where only one subtree has it. The learner (`learner.name`, by default "gradient") decides
which of objective, rule and revive are read. A member that names its learner inherits nothing from the
shared learner, and none of the shared subtrees that its learner does not read. d_in, d_out, steps,
batch_size and seed are filled in from the stream and the top level. Cells may be added to a config whose
cells have been trained; the run of the new ones has `first_index`, from which their names count (grid.py).
"""

from dictlearn.experiment.check import SUBTREES as SUBTREES
from dictlearn.experiment.check import check as check
from dictlearn.experiment.members import SWEPT as SWEPT
from dictlearn.experiment.members import Member as Member
from dictlearn.experiment.members import Part as Part
from dictlearn.experiment.members import members as members
from dictlearn.experiment.programs import Program as Program
from dictlearn.experiment.programs import abstract_states as abstract_states
from dictlearn.experiment.programs import init as init
from dictlearn.experiment.programs import programs as programs
from dictlearn.experiment.programs import update as update
from dictlearn.experiment.recommended import recommended as recommended
