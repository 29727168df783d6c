from ensemble.images.settings import FolderConfig, SplitConfig, in_first_form


def test_settings_that_came_later_change_no_identity_where_they_are_not_set() -> None:
    images = {
        "source": FolderConfig(path="/images").model_dump(mode="json"),
        "split": SplitConfig().model_dump(mode="json"),
        "max_bad_images": 0,
    }
    assert in_first_form(images) == {
        "source": {
            "kind": "folder",
            "path": "/images",
            "storage": None,
            "max_pixels": 50_000_000,
        },
        "split": {
            "train": 300,
            "search": 600,
            "test": None,
            "test_from": None,
            "every_class": True,
        },
        "max_bad_images": 0,
    }
    set_ = {"test": "/elsewhere"}
    source = FolderConfig.model_validate({"path": "/images"} | set_).model_dump(mode="json")
    assert in_first_form(images | {"source": source})["source"]["test"] == "/elsewhere"
