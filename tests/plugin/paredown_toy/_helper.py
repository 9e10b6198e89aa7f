def twice(text: str, mark: str) -> str:
    return text + mark + text
