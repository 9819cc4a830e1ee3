"""Recipes: what init writes parses to the defaults, and every mistake is named with its mend."""

import pytest

from if_factory.errors import UserError
from if_factory.methods import base
from if_factory.recipe import Recipe, commented, load, parse

OK = {"models": {"student": {"endpoint": "http://127.0.0.1:1/v1"}}}


@pytest.mark.parametrize("method", base.names())
def test_init_writes_a_recipe_that_loads_to_the_defaults(method, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(commented(method))
    recipe = load(path)
    assert recipe.method_options() == recipe.definition.options()
    defaults = Recipe(method=method, options=recipe.options,
                      models={role: {} for role, (needed, _) in recipe.definition.roles.items() if needed})
    assert recipe.model_dump(exclude={"options"}) == defaults.model_dump(exclude={"options"})


def test_init_writes_every_key_of_the_recipe_and_of_the_method():
    text = commented("complex_to_simple")
    for key in (*Recipe.model_fields, *base.get_method("complex_to_simple").options.model_fields):
        assert f"{key}:" in text


@pytest.mark.parametrize(("data", "where", "fix"), [
    ({"methd": "x"}, "methd", "did you mean 'method'?"),
    ({"models": {"student": {"endpont": "x"}}}, "models.student.endpont", "did you mean 'endpoint'?"),
    ({**OK, "budget": {"max_requets": 3}}, "budget.max_requets", "did you mean 'max_requests'?"),
    ({**OK, "options": {"student_sample": 3}}, "options", "did you mean 'student_samples'?"),
    ({**OK, "method": "complex_to_simpel"}, "method", "did you mean 'complex_to_simple'?"),
    ({**OK, "preset": "papr"}, "preset", "default, paper, released"),
    ({"models": {"studnt": {}}}, "models", "did you mean 'student'?"),
    ({"models": {}}, "models", "student"),
    ({**OK, "budget": {"max_usd": 1}}, "budget.max_usd", "price"),
])
def test_a_mistake_names_its_place_and_its_mend(data, where, fix):
    with pytest.raises(UserError) as e:
        parse(data)
    assert where in str(e.value)
    assert fix in str(e.value)


@pytest.mark.parametrize(("data", "said"), [
    ([], "expected a mapping"),
    ({**OK, "seed": "many"}, "valid integer"),
    ({**OK, "limit": 0}, "expected a number greater than or equal to 1"),
    ({**OK, "name": "a b,c"}, r"^r.yaml: name: expected letters .* \(found 'a b,c'\)\n  what to do"),
    ({**OK, "shard": "0/4"}, "^r.yaml: shard: expected I/N, such as 1/4"),
    ({**OK, "options": {"include": "keywords"}},
     r"^r.yaml: options: include: expected a valid list .*\n  what to do: write a list: \[keywords\]"),
    ({**OK, "options": {"min_constraints": 5, "max_constraints": 2}},
     r"^r.yaml: options: min_constraints is larger than max_constraints\n  what to do"),
    ({**OK, "options": {"student_samples": 0}}, "nobody would answer"),
])
def test_a_value_out_of_range_is_refused(data, said):
    with pytest.raises(UserError, match=said):
        parse(data, "r.yaml")


def test_a_value_of_the_command_line_is_not_said_to_be_in_the_file(tmp_path):
    (tmp_path / "r.yaml").write_text("models: {student: {}}\n")
    with pytest.raises(UserError, match=r"^shard: expected I/N"):
        load(tmp_path / "r.yaml", given={"shard": "x"})


def test_broken_yaml_names_the_line(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("method: complex_to_simple\nmodels: [\n")
    with pytest.raises(UserError, match=r"r\.yaml:\d+: not valid YAML"):
        load(path)


def test_a_key_given_twice_is_an_error_not_a_lost_line(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("seed: 1\nmodels: {student: {}}\nseed: 2\n")
    with pytest.raises(UserError, match=r"r\.yaml:3: .*'seed' is there twice"):
        load(path)


@pytest.mark.parametrize("spec", ["http://127.0.0.1:1/v1", {"endpoint": "http://127.0.0.1:1/v1"}])
def test_a_url_alone_describes_a_model(spec):
    assert parse({"models": {"student": spec}}).models["student"].endpoint == "http://127.0.0.1:1/v1"


def test_options_override_the_preset_and_the_preset_the_defaults():
    options = parse({**OK, "preset": "paper", "options": {"student_samples": 7}}).method_options()
    assert (options.min_constraints, options.student_samples) == (3, 7)


def test_presets_stack_the_later_one_wins_and_what_it_replaces_is_named():
    given = {"method": "autoif", "models": {"teacher": {}}}
    stacked = parse({**given, "preset": ["paper", "self_alignment"]})
    paper, alone = (parse({**given, "preset": name}).method_options() for name in ("paper", "self_alignment"))
    options = stacked.method_options()
    assert (options.parsing, options.augment_calls) == (paper.parsing, paper.augment_calls) != ("lenient", 20)
    assert (options.student_samples, options.teacher_samples) == (alone.student_samples, 0)
    assert stacked.preset_conflicts() == []
    both = parse({**given, "preset": ["self_alignment", "strong_to_weak"], "options": {"student_samples": 2}})
    assert both.method_options().teacher_samples == 8
    assert both.preset_conflicts() == [
        "student_samples: 4 of preset strong_to_weak replaces 8 of self_alignment; `options` sets its own",
        "teacher_samples: 8 of preset strong_to_weak replaces 0 of self_alignment"]


def test_a_stack_that_names_no_preset_one_twice_or_values_that_do_not_go_together_is_refused():
    for preset, problem in (([], "no preset is named"), (["paper", "papr"], "unknown preset 'papr'"),
                            (["paper", "paper"], "one of them twice")):
        with pytest.raises(UserError, match=problem):
            parse({**OK, "preset": preset})
    with pytest.raises(UserError, match=r"presets generation \+ paper.*: .*min_constraints"):
        parse({**OK, "preset": ["generation", "paper"], "options": {"min_constraints": 6}})


def test_a_preset_by_its_old_name_applies_by_its_new_one_and_the_recipe_is_left_as_it_was() -> None:
    with pytest.warns(FutureWarning, match="preset 'code' is now called 'released'"):
        recipe = parse({"method": "suri", "preset": ["code"], "models": {"teacher": {}}})
    assert recipe.presets == ("released",)
    assert recipe.preset == ["code"]
    assert recipe.resolved()["preset"] == ["released"]
