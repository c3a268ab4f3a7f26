"""Tasks: what models are trained on and asked. Every task has the interface `task.Task`.

`registry` lists the tasks. `reviews` (from `grammar`) is bundled; `imdb` (from `imdb_files`) holds
film reviews; `saferlhf`, `alpaca` and `truthfulqa` are dialogues and share `dialogue`. `source`
reads files or hub datasets, `subsets` makes seeded choices, `tokenizers` builds tokenizers.

To add a task, write a class like `reviews.Reviews`, or a reader of dialogues like `saferlhf`, and
add it to `registry.TASKS`. Nothing here imports torch or ray. transformers is imported only where a
tokenizer is made, so planning does not need it.
"""
