"""The words of made-up tasks."""

CLASSES = {
    "fruit": ("apple", "pear", "plum", "cherry"),
    "metal": ("iron", "copper", "silver", "tin"),
    "animal": ("horse", "wolf", "sheep", "goose"),
    "colour": ("red", "green", "blue", "yellow"),
    "city": ("Paris", "London", "Rome", "Berlin"),
}
