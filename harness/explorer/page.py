"""The page of `condsim explore`, built with Gradio. It serves thumbnails that it makes, and no file of the folder."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import gradio as gr

from condsim.harness.errors import ROWS_SHOWN, CondsimError
from condsim.harness.explorer.explorer import SIGNS, TRUTH, Explorer, Result
from condsim.harness.explorer.search import USUAL, Search, read_settings, read_values, write_values
from condsim.harness.search.marks import Mark
from condsim.harness.settings.arguments import config_folders
from condsim.harness.settings.config_files import choices_of

PAGE, MOST_NAMES = 24, 2000
"""Results per page; names of pictures that are suggested (every name can be typed)."""
FIRST_METHODS = ("clay", USUAL)
EXPLAIN, RIGHT, WRONG, MORE = CLICKS = ("explains it", "marks it right", "marks it wrong", "searches more like it")
MARKS: dict[str, Mark] = {RIGHT: "right", WRONG: "wrong"}
CSS = """
.results .grid-wrap { min-height: 0 !important; max-height: min(80vh, 40rem) !important; overflow-y: auto; }
.results .grid-container { grid-template-columns: repeat(4, minmax(0, 1fr)) !important; }
@media (min-width: 40rem) { .controls { min-height: 15.5rem; } }
@media (max-width: 40rem) { .results .grid-container { grid-template-columns: repeat(3, minmax(0, 1fr)) !important; } }
"""
SCROLL = """() => {
  let waits = null;  // the number of results when the next ones were requested
  document.addEventListener("scroll", ({target: box}) => {
    if (!(box instanceof Element) || !box.closest(".results")) return;
    const shown = box.querySelectorAll("button").length;
    if (shown === waits || box.scrollTop + box.clientHeight < box.scrollHeight - 300) return;
    waits = shown;
    document.querySelector("#more").click();
    setTimeout(() => { waits = null; }, 3000);
  }, true);
}"""
"""Near the end of a grid, request the next results."""


@dataclass(frozen=True)
class Shown:
    """What a grid shows."""

    search: Search
    results: tuple[Result, ...]


@dataclass(frozen=True)
class Side:
    """The controls and the results of one of the two methods."""

    method: gr.Dropdown
    slider: gr.Slider
    settings: gr.Textbox
    grid: gr.Gallery
    message: gr.Textbox
    command: gr.Textbox
    shown: gr.State

    @property
    def inputs(self) -> list[Any]:
        return [self.method, self.slider, self.settings]

    @property
    def outputs(self) -> list[Any]:
        return [self.shown, self.grid, self.message, self.command]


def build(explorer: Explorer) -> gr.Blocks:
    """The page."""
    index, lexicon = explorer.target.index, explorer.target.lexicon
    questions = explorer.target.questions
    names = explorer.target.images.keys
    folder = [explorer.target.config_dir] if explorer.target.config_dir else []
    methods = [("usual for the query", USUAL)]
    methods += [(name, name) for name in choices_of("method", config_folders(folder))]

    with gr.Blocks(title=f"condsim: {_title(explorer)}", analytics_enabled=False, delete_cache=(86400, 86400)) as page:
        gr.HTML(_heading(explorer))
        ident = gr.Dropdown(
            list(questions.ids[:MOST_NAMES]) if questions else [], value=None, allow_custom_value=True,
            visible=questions is not None, elem_id="ident", label="Query of the benchmark, by its id",
        )  # fmt: skip
        with gr.Row():
            with gr.Column(scale=1, min_width=240):
                picture = gr.Image(
                    label="Query picture", type="filepath", image_mode=None, height=240,
                    sources=["upload", "clipboard"], buttons=[], elem_id="picture",
                )  # fmt: skip
                name = gr.Dropdown(
                    list(names[:MOST_NAMES]), value=None, allow_custom_value=True, elem_id="name",
                    label="Picture of the benchmark" if questions else "Picture of the folder",
                )  # fmt: skip
            with gr.Column(scale=2, min_width=300):
                conditions = gr.Dropdown(
                    list(lexicon), value=[], multiselect=True, allow_custom_value=True, elem_id="conditions",
                    label="Conditions", info="Choose some, or type any text and press Enter. Several count at once.",
                )  # fmt: skip
                values = gr.Textbox(
                    label="Values of the conditions", lines=3, max_lines=5, elem_id="values",
                    info="CLAY and others compare pictures by these. Edit them, then click Search.",
                    placeholder="mood: happy, sad, calm",
                )  # fmt: skip
                search = gr.Button("Search", variant="primary", elem_id="search")
        with gr.Row():
            with gr.Column(min_width=300):
                click = gr.Radio(CLICKS, value=EXPLAIN, label="A click on a result", elem_id="click")
            with gr.Column(min_width=300):
                note = gr.Textbox(label="Clicked result", lines=2, max_lines=8, interactive=False, elem_id="note")
        with gr.Row():
            sides = [_side(explorer, methods, first, i) for i, first in enumerate(FIRST_METHODS)]
        with gr.Row():
            more = gr.Button("More results", elem_id="more")
            export = gr.Button("Export both as HTML", elem_id="export")
            save = gr.Button("Make a benchmark of the marks", elem_id="save")
        sheets = gr.File(label="Contact sheets", visible=False, elem_id="sheets")
        bench = gr.Textbox(
            label="Measure the methods on your marks", visible=False, interactive=False, buttons=["copy"], lines=3,
            elem_id="bench",
        )  # fmt: skip
        query = gr.State(None)
        count = gr.State(PAGE)

        def found(
            count: int, ident: str | None, query: str | None, conditions: list[str], values: str, *controls: Any
        ) -> list[Any]:
            if ident and not explorer.is_question(ident, query, conditions):
                ident = None
            outputs: list[Any] = [count, ident]
            for method, level, settings in zip(*[iter(controls)] * 3, strict=True):
                search = Search(query, tuple(conditions), method, question=ident or "")
                outputs += _found(explorer, search, values, count, level, settings)
            return outputs

        def more_found(count: int, *controls: Any) -> list[Any]:
            return found(min(count + PAGE, len(index) + PAGE), *controls)

        def values_of(conditions: list[str], text: str) -> str:
            try:
                edited = read_values(text, {})
            except CondsimError:
                edited = {}
            known = {**lexicon, **edited}
            return write_values({name: known[name] for name in conditions if name in known})

        def chosen(name: str | None) -> tuple[str | None, str | None]:
            if name and not explorer.has(name):
                raise gr.Error(html.escape(f"{name}: there is no such picture here"), print_exception=False)
            return (name, explorer.thumbnail(name)) if name else (None, None)

        def show_query(ident: str | None) -> list[Any]:
            if not ident or questions is None:
                return [None, None, None, []]
            question = _or_error(questions.of, ident)
            shown = question.picture and explorer.thumbnail(question.picture)
            return [question.picture, question.picture, shown, list(question.conditions)]

        def clicked(action: str, shown: Shown, one: Shown, two: Shown, event: gr.SelectData) -> list[Any]:
            result = shown.results[event.index]
            if action == MORE:
                picture = explorer.thumbnail(result.name)
                return [result.name, result.name, picture, f"Query: {result.name}", gr.skip(), gr.skip()]
            text = f"{result.name}: {result.why or 'the method has no explanation of its scores'}"
            if action in MARKS:
                text = _or_error(explorer.mark, result, shown.search, MARKS[action])
            grids = [explorer.grid(side.results, side.search) for side in (one, two)]
            return [gr.skip(), gr.skip(), gr.skip(), text, *(grids if action in MARKS else (gr.skip(), gr.skip()))]

        def exported(one: Shown, two: Shown, count: int) -> Any:
            files = [_or_error(explorer.sheet, side.search, count) for side in (one, two) if side.results]
            return gr.File(files, visible=True)

        def saved(one: Shown, two: Shown) -> Any:
            return gr.Textbox(_or_error(explorer.save, [one.search, two.search]), visible=True)

        controls = [ident, query, conditions, values, *(part for side in sides for part in side.inputs)]
        results = [count, ident, *(part for side in sides for part in side.outputs)]
        grids = [side.grid for side in sides]
        shown = [side.shown for side in sides]

        picture.upload(lambda path: (path, None), picture, [query, name], show_progress="hidden")
        picture.clear(lambda: (None, None), None, [query, name], show_progress="hidden")
        name.input(chosen, name, [query, picture], show_progress="hidden")
        ident.input(show_query, ident, [query, name, picture, conditions], show_progress="hidden")
        more.click(more_found, [count, *controls], results, trigger_mode="once", show_progress="hidden")
        for side in sides:
            side.grid.select(clicked, [click, side.shown, *shown], [query, name, picture, note, *grids])
        # First the controls that depend on the changed one: no search sees one method with the slider of another.
        changes: list[Any] = [conditions.change(values_of, [conditions, values], values, show_progress="hidden").then]
        for number, side in enumerate(sides):
            to_slider = side.method.input(partial(_slider, explorer, number), side.method, side.slider)
            changes += [to_slider.then, side.slider.input, side.settings.submit]
        for change in (page.load, query.change, search.click, *changes):
            change(partial(found, PAGE), controls, results, trigger_mode="always_last", show_progress="minimal")
        export.click(exported, [*shown, count], sheets)
        save.click(saved, shown, bench)
    return cast(gr.Blocks, page)


def open_page(page: gr.Blocks, port: int | None, in_browser: bool) -> str:
    """Start the server, for this machine only, and return the address. Raises OSError for a busy port."""
    # The system's fonts, so that no font comes from the network.
    theme = gr.themes.Default(font=("system-ui", "sans-serif"), font_mono=("ui-monospace", "monospace"))
    _, address, _ = page.launch(
        server_name="127.0.0.1", server_port=port, inbrowser=in_browser, prevent_thread_lock=True, quiet=True,
        share=False, ssr_mode=False, pwa=False, mcp_server=False, run_history=False, enable_monitoring=False,
        footer_links=["settings"], theme=theme, css=CSS, js=SCROLL, max_file_size="100mb",
    )  # fmt: skip
    return str(address)


def _side(explorer: Explorer, methods: Sequence[tuple[str, str]], first: str, number: int) -> Side:
    with gr.Column(min_width=300):
        with gr.Column(elem_classes="controls"):
            method = gr.Dropdown(methods, value=first, label=f"Method {number + 1}", elem_id=f"method-{number}")
            slider = _slider(explorer, number, first)
            settings = gr.Textbox(
                label="Other settings", placeholder="subspace=single several=mean", elem_id=f"settings-{number}"
            )
        message = gr.Textbox(label="Message", visible=False, interactive=False, elem_id=f"message-{number}")
        grid = gr.Gallery(
            label="Results", show_label=False, allow_preview=False, interactive=False, height="auto",
            object_fit="contain", buttons=[], elem_id=f"results-{number}", elem_classes="results",
        )  # fmt: skip
        command = gr.Textbox(
            label="Measure the method on the benchmark"
            if explorer.target.questions
            else "The same search as a command",
            interactive=False,
            buttons=["copy"],
            elem_id=f"command-{number}",
        )
    return Side(method, slider, settings, grid, message, command, gr.State(Shown(Search(None, ()), ())))


def _slider(explorer: Explorer, number: int, method: str) -> gr.Slider:
    name = f"slider-{number}"
    slider = explorer.target.slider(method)
    if slider is None:
        return gr.Slider(visible=False, elem_id=name)
    return gr.Slider(
        slider.low, slider.high, slider.value, step=slider.step, label=slider.name, visible=True, interactive=True,
        elem_id=name,
    )  # fmt: skip


def _found(explorer: Explorer, search: Search, values: str, count: int, level: float, settings: str) -> list[Any]:
    """The outputs of a side."""
    try:
        slider = explorer.target.slider(search.method)
        chosen = {} if slider is None else {slider.name: f"{level:g}"}
        edited = read_values(values, explorer.target.lexicon)
        edited = {condition: listed for condition, listed in edited.items() if condition in search.conditions}
        search = replace(search, settings=chosen | read_settings(settings), values=edited)
        results = explorer.search(search, count)
        error = ""
    except CondsimError as fault:
        results, error = (), str(fault)
        unknown = explorer.target.without_values(search)
        if unknown is not None and repr(unknown) in error:  # the message is for the command line
            error = (
                f"{search.method} needs values of {unknown!r}. Under Values of the conditions, write a line such as "
                f"{unknown}: first value, second value, then click Search"
            )
    command = explorer.command(search, count)
    grid = explorer.grid(results, search)
    return [Shown(search, results), grid, gr.Textbox(error, visible=bool(error)), command]


def _or_error(call: Any, *arguments: Any) -> Any:
    """What ``call`` returns; its CondsimError as a message on the page."""
    try:
        return call(*arguments)
    except CondsimError as error:
        raise gr.Error(html.escape(str(error)), print_exception=False) from None


def _title(explorer: Explorer) -> str:
    questions = explorer.target.questions
    return questions.task.full_name if questions else explorer.target.index.root.name


def _heading(explorer: Explorer) -> str:
    pictures = explorer.target.index.pictures
    text = f"<h1>{html.escape(_title(explorer))}</h1><p>{len(pictures.table):,} pictures, "
    text += f"{html.escape(explorer.target.backbone)}. Marks: {SIGNS['right']}right, {SIGNS['wrong']}wrong."
    text += f" {TRUTH}right in the benchmark.</p>" if explorer.target.questions else "</p>"
    if pictures.unreadable:
        listed = [f"<li>{html.escape(f'{name}: {fault}')}</li>" for name, fault in pictures.unreadable.items()]
        more = f"<li>... and {len(listed) - ROWS_SHOWN:,} more</li>" if len(listed) > ROWS_SHOWN else ""
        text += f"<details><summary>Files that cannot be read: {len(listed):,}</summary><ul>"
        text += "".join(listed[:ROWS_SHOWN]) + more + "</ul></details>"
    return text
