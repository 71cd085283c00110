# Exchanges versions of a release. Goes on without us, and puts back what was there if the new version does not
# start. Needs T, N, D (directory of the exchange, below T: moving there is a rename), LIMIT in seconds.
# $D/tree: what comes; $D/before: what was replaced; $D/parts: what was moved; $D/ran: the old version ran.
nap() { sleep 0.2 2>/dev/null || sleep 1; }

# a zombie has no exe
some() {
    for pid in $1; do readlink "/proc/$pid/exe" >/dev/null 2>&1 && return 0; done
    return 1
}

# virtual machines that were booted from here; the release's own tools boot other files
beams() {
    root=$(cd "$T" && pwd -P) || return 0
    for file in $(grep -laF -e "$root/releases/" /proc/[0-9]*/cmdline 2>/dev/null); do
        process=${file%/cmdline}
        case $(readlink "$process/exe" 2>/dev/null) in
            */beam.smp|*"/beam.smp (deleted)"|*/beam) ;;
            *) continue ;;
        esac
        tr '\0' '\n' <"$file" 2>/dev/null | grep -q "/releases/[^/]*/start\$" && echo "${process#/proc/}"
    done
}

# $1: process ids. Asks first, then insists.
halt() {
    some "$1" || return 0
    "$T/bin/$N" stop >/dev/null 2>&1 &
    asked=$!
    tries=0
    while some "$1"; do
        tries=$((tries + 1))
        case $tries in
            "$((LIMIT * 5))") echo "it did not stop when asked: TERM"; kill $1 2>/dev/null ;;
            "$((LIMIT * 5 + 50))") echo "it did not stop at TERM: KILL"; kill -9 $1 2>/dev/null ;;
            "$((LIMIT * 5 + 100))") kill "$asked" 2>/dev/null; echo "it does not stop"; return 1 ;;
        esac
        nap
    done
    # the script may ask a node that is gone for ever
    kill "$asked" 2>/dev/null
    return 0
}

# `daemon` waits for ever for what can't boot
launch() {
    "$T/bin/$N" daemon >"$D/said" 2>&1 </dev/null &
    starter=$!
    tries=0 gone=0
    while kill -0 "$starter" 2>/dev/null; do
        tries=$((tries + 1))
        if [ $((tries % 5)) -eq 0 ]; then
            if [ -n "$(beams)" ]; then gone=0; else gone=$((gone + 1)); fi
        fi
        if [ "$gone" -ge 6 ] || [ "$tries" -ge $((LIMIT * 5)) ]; then
            kill -9 "$starter" 2>/dev/null
            why
            return 1
        fi
        nap
    done
    if wait "$starter"; then booted && return 0; fi
    why
    return 1
}

# a node answers before its applications have started, and ends when they can't: for a moment it is `started` then, but
# nobody answers for its applications any more
booted() {
    gone=0
    while :; do
        case $("$(tool)" eval '{element(1,init:get_status()),is_list(application:which_applications())}.' 2>/dev/null) in
            *started*true*) return 0 ;;
        esac
        if [ -n "$(beams)" ]; then gone=0; else gone=$((gone + 1)); fi
        tries=$((tries + 1))
        if [ "$gone" -ge 3 ] || [ "$tries" -ge $((LIMIT * 5)) ]; then return 1; fi
        nap
    done
}

why() {
    cat "$D/said"
    log=$(ls -t "$T"/log/erlang.log.* "$T"/tmp/log/erlang.log.* 2>/dev/null | head -n 1)
    [ -n "$log" ] && tail -n 25 "$log" | cut -c 1-400 | grep -v '^[[:space:]]*$'
    true
}

swap() {
    mkdir -p "$D/before/lib" "$D/before/releases" "$D/before/bin" "$T/lib" "$T/releases" "$T/bin" || return 1
    for entry in "$D"/tree/lib/* "$D"/tree/releases/* "$D"/tree/bin/* "$D"/tree/*; do
        part=${entry#"$D"/tree/}
        case $part in lib|releases|bin) continue ;; esac
        [ -e "$entry" ] || [ -L "$entry" ] || continue
        if [ -e "$T/$part" ] || [ -L "$T/$part" ]; then
            echo "had $part" >>"$D/parts" && mv "$T/$part" "$D/before/$part" || return 1
        else
            echo "new $part" >>"$D/parts" || return 1
        fi
        mv "$entry" "$T/$part" || return 1
    done
}

restore() {
    [ -f "$D/parts" ] || return 0
    while IFS= read -r line; do
        part=${line#????}
        case $line in
            new*) rm -rf "${T:?}/$part" || return 1 ;;
            had*)
                if [ -e "$D/before/$part" ] || [ -L "$D/before/$part" ]; then
                    rm -rf "${T:?}/$part" && mv "$D/before/$part" "$T/$part" || return 1
                fi ;;
        esac
    done <"$D/parts"
    rm -f "$D/parts"
}

# to what was there; started again if it ran
back() {
    halt "$(beams)" && restore || return 1
    [ -e "$D/ran" ] || return 0
    launch
}
