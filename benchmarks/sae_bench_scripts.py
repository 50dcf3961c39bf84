"""For benchmarks/sae_bench.py: SAEBench's own evaluations in another interpreter, on texts that are given.

Its functions that download data, and that load the model by name, are replaced; all else is SAEBench's.
"""

_PREPARED = """
import functools, glob, tempfile, time
import jaxtyping
jaxtyping.config.update("jaxtyping_disable", True)  # newer versions refuse the shapes of train_sklearn_probe
from types import SimpleNamespace
import sae_bench.evals.absorption.main as absorption
import sae_bench.evals.core.main as core
import sae_bench.evals.scr_and_tpp.main as scr_and_tpp
import sae_bench.evals.sparse_probing.main as sparse_probing
from sae_bench.evals.absorption import common, feature_absorption, feature_absorption_calculator
from sae_bench.evals.absorption import k_sparse_probing, probing, prompting
from sae_bench.evals.absorption.eval_config import AbsorptionEvalConfig
from sae_bench.evals.core.eval_config import CoreEvalConfig
from sae_bench.evals.scr_and_tpp.eval_config import ScrAndTppEvalConfig
from sae_bench.evals.sparse_probing.eval_config import SparseProbingEvalConfig
from sae_bench.sae_bench_utils import dataset_info, dataset_utils
from sae_bench.sae_bench_utils.general_utils import load_and_format_sae
from sae_lens import SAE

saes = [SAE.load_from_disk(folder, device="cpu") for folder in sorted(glob.glob(f"{home}/sae*"))]
sae = saes[0]
for evaluation in (absorption, scr_and_tpp, sparse_probing):
    evaluation.HookedTransformer = SimpleNamespace(from_pretrained_no_processing=lambda *_, **__: model)
scr_and_tpp.COLUMN2_VALS_LOOKUP["ours"] = ("yes", "no")
model.cfg.default_prepend_bos = True  # of the prompts; documents begin with the separator
flat = lambda groups: {k: v for group in groups.values() for k, v in group.items()}
trained = {}

def kept(train):
    def wrapped(*args, **options):
        probes, accuracies = train(*args, **options)
        for name, one in probes.items():
            if hasattr(one, "net"):
                trained[name] = [*one.net.weight[0].tolist(), one.net.bias.item()]
        return probes, accuracies
    return wrapped

scr_and_tpp.probe_training.train_probe_on_activations = kept(
    scr_and_tpp.probe_training.train_probe_on_activations)

def run(evaluate, config):
    trained.clear()
    begin = time.perf_counter(), time.process_time()
    named, out = [(f"ours_{n}", each) for n, each in enumerate(saes)], tempfile.mkdtemp(dir=home)
    if evaluate is not absorption.run_eval:
        evaluate = functools.partial(evaluate, artifacts_path=f"{out}/artifacts")
    result, *_ = evaluate(config, named, "cpu", out).values()
    seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    return {"seconds": seconds, "values": flat(result["eval_result_metrics"]), "probes": dict(trained)}
"""

_DOCUMENTS = """
given = json.load(open(f"{home}/given.json"))
dataset_info.chosen_classes_per_dataset["ours"] = given["classes"]
own = scr_and_tpp.dataset_creation.get_train_test_data
shared = dict(
    random_seed=42, dataset_names=["ours"], context_length=length, llm_batch_size=32, llm_dtype="float32",
    model_name="smollm2")

def of_documents(n, kind):
    documents = given["documents"][n]
    dataset_utils.get_multi_label_train_test_data = lambda *_: documents["classes"]
    scr_and_tpp.dataset_creation.get_train_test_data = (
        lambda name, scr, *rest: documents["pair"] if scr else own(name, scr, *rest))
    if kind == "sparse_probing":
        return run(sparse_probing.run_eval, SparseProbingEvalConfig(**shared))
    config = ScrAndTppEvalConfig(
        **shared, perform_scr=kind == "scr", n_values=ns, column1_vals_lookup={"ours": [("one", "other")]})
    return run(scr_and_tpp.run_eval, config)
"""

_WORDS = """
letters = given["letters"].lower()
for module in (feature_absorption, k_sparse_probing, probing):
    module.LETTERS = letters
first_probes = k_sparse_probing.run_k_sparse_probing_experiment
train_probes, make_probe = common.train_linear_probe_for_task, common.create_and_train_probe

def keep_main(sparse, **options):
    found = sparse(**options)
    columns = (found[key] for key in ("letter", "split_feats", "f1_probe"))
    for letter, main, f1 in zip(*columns):  # those of the first dictionary
        trained.setdefault(letter.upper(), {"main": [int(one) for one in main], "f1": f1})
    return found

def of_words(n, epochs):
    prompts = given["words"][n]
    words = list(prompts)
    prompt = lambda word, *_, **__: prompting.SpellingPrompt(prompts[word], f" {word[1].upper()}", word)
    for module in (probing, feature_absorption_calculator):
        module.create_icl_prompt = prompt
    for module in (common, feature_absorption):
        module.get_alpha_tokens = lambda _: words
    probing.random = SimpleNamespace(sample=lambda *_: words)  # the train words come first
    common.train_linear_probe_for_task = lambda **o: train_probes(**{**o, "num_classes": len(letters)})
    common.create_and_train_probe = lambda **o: make_probe(**{**o, "num_epochs": epochs})
    own = f"{home}/words_{n}_{epochs}"
    folders = {"probes_dir": f"{own}/probes"}
    sparse = functools.partial(first_probes, **folders, experiment_dir=f"{own}/sparse")
    absorption.run_k_sparse_probing_experiment = functools.partial(keep_main, sparse)
    absorption.run_feature_absortion_experiment = functools.partial(
        feature_absorption.run_feature_absortion_experiment, **folders, experiment_dir=f"{own}/absorbed",
        sparse_probing_experiment_dir=f"{own}/sparse")
    found = run(absorption.run_eval, AbsorptionEvalConfig(
        model_name="smollm2", min_feats_for_eval=1, k_sparse_probe_num_epochs=epochs))
    probe = common.load_probe("smollm2", sae.cfg.hook_layer, f"{own}/probes")
    for i, one in enumerate(found["probes"].values()):
        one["probe"] = [*probe.weights[i].tolist(), probe.biases[i].item()]
    return found
"""

_CORE = """
class Store:
    context_size, store_batch_size_prompts = tokens.shape[1], 8
    def reset_input_dataset(self):
        self.batches = iter(torch.tensor(tokens).split(8))
    def get_batch_tokens(self, _):
        return next(self.batches)

def of_core():
    store = Store()
    names = ("kl", "ce_loss", "l2_norms", "sparsity_metrics", "variance_metrics",
             "featurewise_density_statistics", "featurewise_weight_based_metrics")
    config = CoreEvalConfig(
        model_name="smollm2", exclude_special_tokens_from_reconstruction=True, batch_size_prompts=8,
        n_eval_reconstruction_batches=len(tokens) // 8, n_eval_sparsity_variance_batches=len(tokens) // 8,
        **{f"compute_{name}": True for name in names})
    each, begin = [], (time.perf_counter(), time.process_time())
    for one in saes:
        load_and_format_sae("ours", one, "cpu")
        store.reset_input_dataset()
        found, features = core.run_evals(one, store, model, config, ignore_tokens={separator})
        found["misc"] = core.calculate_misc_metrics(features)
        each.append(flat(found))
    seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
    return {"seconds": seconds, "values": each[0], "probes": {}}
"""

CORE = f"{_PREPARED}{_CORE}\nfound = {{'core': [of_core()]}}\n"
DRAWS = f"""{_PREPARED}{_DOCUMENTS}{_WORDS}
n_draws = len(given["documents"])
found = {{kind: [of_documents(n, kind) for n in range(n_draws)] for kind in ("sparse_probing", "scr", "tpp")}}
found["absorption"] = [of_words(n, 50) for n in range(n_draws)]
"""
"""Both come after MODEL and a TransformerLens model of benchmarks/tools_common.py."""
