#!/bin/sh
# Speaks to the node of a `mix release` as the script of a rebar3 release does: `ci deploy` put it into the package, for
# upgrades of the running node. Expressions are Erlang's. Everything else is done by the release's own script.
# Exit codes: 1 the node does not answer, 2 not unpacked, 3 not removed, 4 not installed.
ROOT=$(cd "$(dirname -- "$0")/.." && pwd -P) || exit 1
NAME=@NAME@
SCRIPT=$ROOT/bin/$NAME

evaluate() { # prints the value in one line
    text=$(printf '%s' "$1" | sed 's/[\\"#]/\\&/g')
    "$SCRIPT" rpc "{:ok, tokens, _} = :erl_scan.string(String.to_charlist(\"$text\")); {:ok, parsed} = :erl_parse.parse_exprs(tokens); {:value, value, _} = :erl_eval.exprs(parsed, []); :io.format('~0tp~n', [value])"
}
act() { # act CODE EXPRESSION: the value has to be `ok`
    said=$(evaluate "$2" 2>&1) || { printf '%s\nERROR: the node is not running, or failed to answer\n' "$said"; exit 1; }
    [ "$(printf '%s\n' "$said" | tail -n 1)" != ok ] || return 0
    printf 'ERROR: release_handler failed: %s\n' "$said"
    exit "$1"
}
unpack() { # where release_handler wants the archive, there is a link to it for the moment
    case $(evaluate "lists:keymember(\"$1\",2,release_handler:which_releases())." 2>/dev/null) in true) return 0 ;; esac
    mkdir -p "$ROOT/releases/$1" && ln -sf "../$NAME-$1.tar.gz" "$ROOT/releases/$1/$NAME.tar.gz" || exit 2
    act 2 "case release_handler:unpack_release(\"$1/$NAME\") of {ok,_} -> ok; Error -> Error end."
    rm -f "$ROOT/releases/$1/$NAME.tar.gz"
    echo "Unpacked $1"
}
install() {
    unpack "$1"
    act 4 "begin V=\"$1\",All=release_handler:which_releases(),{_,_,_,S}=lists:keyfind(V,2,All),
        case S=:=current orelse (S=:=permanent andalso not lists:keymember(current,4,All)) of
        true -> ok;
        false -> case release_handler:install_release(V,[{update_paths,true}]) of {ok,_,_} -> ok; Error -> Error end
        end end."
    echo "Installed $1"
}

case ${1:-} in
    eval) evaluate "$2" ;;
    ping) evaluate 'pong.' ;;
    versions) evaluate '[{V,S}||{_,V,_,S}<-release_handler:which_releases()].' ;;
    unpack) unpack "$2" ;;
    install|upgrade|downgrade)
        if [ "$2" = --no-permanent ]; then install "$3"; exit; fi
        install "$2"
        act 4 "release_handler:make_permanent(\"$2\")."
        # every version starts by its own script
        if [ -f "$ROOT/bin/$NAME-$2" ]; then
            cp -p "$ROOT/bin/$NAME-$2" "$SCRIPT.new" && mv "$SCRIPT.new" "$SCRIPT" || exit 4
        fi
        echo "Made release permanent: $2" ;;
    uninstall) act 3 "release_handler:remove_release(\"$2\")." ;;
    *) exec "$SCRIPT" "$@" ;;
esac
