from edgedf.formats.layer_names import names_of_layers, short_name


def test_names_are_those_of_the_innermost_modules() -> None:
    wrapped = "export.<locals>.ByteInput/a.b.Deployable_network"
    assert (
        short_name(f"{wrapped}/a.Decoder_decoder/b.Conv_reduce16;")
        == "Decoder_decoder/Conv_reduce16"
    )
    assert short_name(f"{wrapped}/b.Conv_stem;;{wrapped}/b.Conv_stem;") == "Conv_stem"
    assert short_name(f"{wrapped}/b.Conv_project;22") == "Conv_project;22"
    assert short_name("export.<locals>.ByteInput;") == "ByteInput"
    assert short_name("plain") == "plain"


def test_what_all_weights_share_is_left_out() -> None:
    tensors = ["conv2d_3", "add_1"]
    assert names_of_layers(tensors, ["net.stem.weight", None]) == ["stem", "add_1"]
    two = ["net.stem.weight", "other.head.weight"]
    assert names_of_layers(tensors, two) == ["net.stem", "other.head"]
