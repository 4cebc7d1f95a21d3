import pytest

from hocket.errors import InputError
from hocket.resources import list_recipes
from hocket.training import load_recipe
from hocket.training.sweep import plan_jobs

MISTAKES = {
    "model.dmi=3": 'there is no key "model.dmi" (did you mean "model.dim"?)',
    "dim=3": 'there is no key "dim" (did you mean "model.dim"?)',
    "modle=tiny": 'there is no key "modle" (did you mean "model"?)',
    "+model.zzz=1": 'there is no key "model.zzz" (did you mean "model.',
    "interleave=dealy": 'interleave has no choice "dealy" (did you mean "delay"?)',
    "training.steps=abc": 'training.steps must be a whole number, not "abc"',
    "training.steps=1.5": 'training.steps must be a whole number, not "1.5"',
    "training.tensorboard=7up": 'training.tensorboard must be true or false, not "7up"',
    "training.steps=0": "training.steps is 0, but must be at least 1",
    "training.beta1=1": "training.beta1 is 1.0, but must be at least 0 and below 1",
    "training.lr=inf": "training.lr is inf, but must be finite",
    "training.min_lr_ratio=2": "training.min_lr_ratio is 2.0, but can be at most 1",
    "training.seed=99999999999999999999": "training.seed is 99,999,999,999,999,999,999, but can be at most",
    "training.stream_weights.text=0": "training.stream_weights.text is new to the recipe: write +training",
    "training.steps=1,2": "training.steps=1,2 lists several values: add -m to train one run for each",
    "training.engine=deepsped": 'training.engine has no choice "deepsped" (did you mean "deepspeed"?)',
    "model.n_heads=3": "model.dim is 32, but must be a multiple of model.n_heads, 3",
    "inference.top_p=2": "inference.top_p is 2.0, but must be above 0 and at most 1",
    "steps": '"steps" is no setting: write key=value or group=choice',
    "interleave.layout=Delay(audio)": "the value of interleave.layout holds brackets, commas or quotes",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_a_mistake_is_one_sentence_with_the_nearest_name(override):
    with pytest.raises(InputError) as error:
        load_recipe("tiny", [override])
    assert str(error.value).startswith(MISTAKES[override])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_composes(name):
    given = ["model.warm_start=X"] if name == "slam-tiny" else []
    assert load_recipe(name, given, fill={"data.corpus": "X"}).output == f"runs/{name}"


def test_a_recipe_for_own_data_asks_for_it():
    with pytest.raises(InputError, match=r"data\.corpus has no value yet: add data\.corpus=VALUE"):
        load_recipe("small")


def test_groups_and_keys_are_overridden():
    recipe = load_recipe("demo", ["interleave=flatten", "model.dim=128", 'interleave.layout="Delay(audio, [0, 1])"'])
    assert (recipe.model.dim, recipe.interleave.layout) == (128, "Delay(audio, [0, 1])")


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(InputError, match=r'there is no recipe "dmo" \(did you mean "demo"\?\)'):
        load_recipe("dmo")


def test_own_recipe_files_build_on_ours(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "defaults:\n  - tiny\n  - override interleave: flatten\n  - _self_\nname: mine\nmodel:\n  dim: 64\n"
    )
    recipe = load_recipe(mine, ["training.steps=3"])
    assert (recipe.model.dim, recipe.training.steps, recipe.output) == (64, 3, "runs/mine")
    assert "Flatten" in recipe.interleave.layout


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: mine\nmodel:\n  dmi: 64\n", 'there is no key "model.dmi" (did you mean "model.dim"?)'),
        ("defaults:\n  - tiny\n  - _self_\nmodel:\n  dmi: 64\n", 'there is no key "model.dmi"'),
        ("name: [mine\n", "the recipe mine is not valid YAML"),
        ("defaults:\n  - tinny\n", 'the recipe "mine" builds on "tinny", which does not exist'),
    ],
)
def test_a_mistake_in_an_own_recipe_is_one_sentence(tmp_path, text, sentence):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        load_recipe(tmp_path / "mine.yaml")
    assert str(error.value).startswith(sentence)
    assert "\n" not in str(error.value)


def test_every_job_of_a_sweep_is_checked_first():
    assert plan_jobs("tiny", ["model.dim=32,64", "training.steps=2"])["1"] == ["model.dim=64", "training.steps=2"]
    with pytest.raises(InputError, match=r"model\.dim is 33"):
        plan_jobs("tiny", ["model.dim=32,33"])


def test_a_folder_at_home_needs_no_quotes():
    assert load_recipe("tiny", ["data.corpus=~/my speech (1)"]).data.corpus == "~/my speech (1)"


def test_a_mixture_of_corpora_needs_no_quotes():
    assert load_recipe("tiny", ["data.corpus=a:0.7,b:0.3"]).data.corpus == "a:0.7,b:0.3"
    assert load_recipe("tiny", ["data.corpus='a,b'"]).data.corpus == "a,b"
