from delineate.models.catalogue import MODELS, model_options


def test_one_line_a_model(typed):
    result = typed("models", "--search", "fcn*s")
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert [line[0] for line in lines[2:5]] == ["fcn16s", "fcn32s", "fcn8s"]
    assert lines[3][:8] == ["fcn32s", "semantic", "136.15", "M", "32", "404", "px", "vgg16"]
    assert "Long et al. 2015" in result.output


def test_options_and_the_paper_in_full(typed):
    result = typed("models", "--search", "enet", "--options")
    assert result.exit_code == 0
    assert f"enet: {MODELS['enet'].paper} 2016\n" in result.output
    rows = [line.split()[:2] for line in result.output.splitlines() if line.startswith("enet ")]
    assert [["enet", option] for option in model_options("enet")] == rows[1:]


def test_nothing_found(typed):
    result = typed("models", "--search", "transformer9")
    assert (result.exit_code, result.output.count("\n")) == (1, 1)


def test_an_unknown_task(typed):
    assert "task must be a known name; got 'semantik'. Did you mean 'semantic'?" in str(
        typed("models", "--task", "semantik").exception
    )
