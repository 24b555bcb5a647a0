"""Completion of command lines in bash, zsh and fish, made from the tables in ``options``. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from asyncdup.cli.help import command_parts
from asyncdup.cli.help_topics import TOPICS
from asyncdup.cli.option_values import one_of
from asyncdup.cli.options import OPTIONS, Option
from asyncdup.cli.orders import ORDERS
from asyncdup.errors import UsageError

_SHOWN = tuple(option for option in OPTIONS if option.help)
_COMMANDS = tuple((name, what) for _, entries in command_parts() for name, _, what in entries)
# What may follow a word that is no option.
_AFTER = {
    "job": ORDERS,
    "completion": ("bash", "zsh", "fish"),
    "help": ("options", *TOPICS, *(name for name, _ in _COMMANDS)),
}


def completion(shell: str) -> str:
    """The script that ``shell`` is to read. Raises UsageError for another shell."""
    makers: dict[str, Callable[[], Iterator[str]]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    if shell not in makers:
        raise UsageError(f"no completion for {shell!r}", hint="asyncdup completion bash, zsh or fish")
    return "\n".join(makers[shell]()) + "\n"


def _bash() -> Iterator[str]:
    """``=`` is a word of its own to bash; where nothing is offered, readline completes file names."""
    yield "# bash completion of asyncdup: source <(asyncdup completion bash)"
    yield "_asyncdup() {"
    yield '    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command="" each offered=""'
    yield '    if [[ $word == "=" ]]; then word=""; elif [[ $before == "=" ]]; then before=${COMP_WORDS[COMP_CWORD-2]}; fi'
    yield '    for each in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do [[ $each == -* ]] || { command=$each; break; }; done'
    yield "    COMPREPLY=()"
    yield "    case $before in"
    yield from _valued()
    yield "    esac"
    yield "    if [[ $word == -* ]]; then case $command in"
    for name, options in _options_by_command():
        yield f"        {name}) offered='{' '.join(f'--{option.name}' for option in options)}';;"
    yield f"        *) offered='{' '.join(f'--{option.name}' for option in _SHOWN)}';;"
    yield "    esac"
    yield "    elif [[ -z $command ]]; then"
    yield f"        offered='{' '.join(name for name, _ in _COMMANDS)}'"
    yield "    else case $command in"
    for name, words in _AFTER.items():
        yield f"        {name}) offered='{' '.join(words)}';;"
    yield "    esac; fi"
    yield '    COMPREPLY=($(compgen -W "$offered" -- "$word"))'
    yield "}"
    yield "complete -o default -F _asyncdup asyncdup"


def _valued() -> Iterator[str]:
    """What follows an option that takes a value: its choices, or a file."""
    for option in _SHOWN:
        choices = _choices(option)
        if choices:
            yield f"""    {_pattern(option)}) COMPREPLY=($(compgen -W '{" ".join(choices)}' -- "$word")); return;;"""
    yield f"    {'|'.join(_pattern(option) for option in _SHOWN if option.metavar and not _choices(option))}) return;;"


def _zsh() -> Iterator[str]:
    yield "#compdef asyncdup"
    yield "# zsh completion of asyncdup: asyncdup completion zsh > a folder of $fpath/_asyncdup"
    yield "_asyncdup() {"
    yield "    local -a commands options words_after"
    yield "    local command= before=${words[CURRENT-1]} each"
    yield "    for each in ${words[2,CURRENT-1]}; do [[ $each == -* ]] || { command=$each; break; }; done"
    yield "    commands=("
    yield from (f"        {_quoted(f'{name}:{what}')}" for name, what in _COMMANDS)
    yield "    )"
    yield "    case $before in"
    for option in _SHOWN:
        if choices := _choices(option):
            yield f"        {_pattern(option)}) words_after=({' '.join(choices)}); _describe value words_after; return;;"
    yield f"        {'|'.join(_pattern(option) for option in _SHOWN if option.metavar and not _choices(option))}) _files; return;;"
    yield "    esac"
    yield "    if [[ $words[CURRENT] == -* ]]; then"
    yield "        case $command in"
    for name, found in [*_options_by_command(), ("*", _SHOWN)]:
        yield f"        {name}) options=({' '.join(_quoted(f'--{option.name}:{option.help}') for option in found)});;"
    yield "        esac"
    yield "        _describe option options"
    yield "    elif [[ -z $command ]]; then"
    yield "        _describe command commands; _files"
    yield "    else"
    yield "        case $command in"
    yield from (f"        {name}) words_after=({' '.join(words)});;" for name, words in _AFTER.items())
    yield "        esac"
    yield "        if (( $#words_after )); then _describe word words_after; else _files; fi"
    yield "    fi"
    yield "}"
    yield 'if [[ $funcstack[1] == _asyncdup ]]; then _asyncdup "$@"; else compdef _asyncdup asyncdup; fi'


def _fish() -> Iterator[str]:
    yield "# fish completion of asyncdup: asyncdup completion fish | source"
    for name, what in _COMMANDS:
        yield f"complete -c asyncdup -n __fish_use_subcommand -a {name} -d {_quoted(what, fish=True)}"
    for name, words in _AFTER.items():
        yield f"complete -c asyncdup -n '__fish_seen_subcommand_from {name}' -f -a '{' '.join(words)}'"
    for option in _SHOWN:
        letters = "".join(f" -s {alias[1]}" for alias in option.aliases if alias.startswith("-"))
        choices = _choices(option)
        value = f" -x -a '{' '.join(choices)}'" if choices else " -r" if option.metavar else ""
        yield f"complete -c asyncdup -l {option.name}{letters}{value} -d {_quoted(option.help, fish=True)}"


def _options_by_command() -> Iterator[tuple[str, list[Option]]]:
    for name, _ in _COMMANDS:
        found = [option for option in _SHOWN if name in option.commands]
        if found:
            yield name, found


def _choices(option: Option) -> tuple[str, ...]:
    return option.convert.choices if isinstance(option.convert, one_of) else ()


def _pattern(option: Option) -> str:
    return "|".join([f"--{option.name}", *(alias for alias in option.aliases if alias.startswith("-"))])


def _quoted(text: str, *, fish: bool = False) -> str:
    """In single quotes, as the shell reads them: zsh has no escape within, fish has."""
    return "'" + (text.replace("\\", "\\\\").replace("'", "\\'") if fish else text.replace("'", "'\\''")) + "'"
