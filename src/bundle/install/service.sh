# --- 2. what is here -----------------------------------------------------------------------------------------
# DIR/versions/VERSION, never changed once it is there; DIR/current leads to one; DIR/.ci/served: what served, last first
SERVICE=$(fact service)
CONTENT=$(fact content)
GROUP=$(fact program); GROUP=${GROUP%%:*}
processes() { # PID VERSION: programs that lie in a version's directory, or that were started by us
    { ls -l /proc/[0-9]*/exe | sed -n 's|.*/proc/\([0-9]*\)/exe -> \(.*\)$|\1 \2|p'
      grep -az '^SLIPWAY_RELEASE=' /proc/[0-9]*/environ | tr '\0' '\n' | sed -n 's|^/proc/\([0-9]*\)/environ:SLIPWAY_RELEASE=\(.*\)$|\1 \2/|p'
    } 2>/dev/null | while read -r pid path; do
        case $path in "$REAL"/versions/*) ;; *) continue ;; esac
        case $(readlink "/proc/$pid/exe") in */epmd|*/epmd\ *) continue ;; esac
        path=${path#"$REAL"/versions/}
        printf '%s %s\n' "$pid" "${path%%/*}"
    done
}
pids_of() { processes | awk -v v="$1" '$2 == v { print $1 }'; }
control() { supervisorctl -s "$(fact server)" "$@"; }
exe() { readlink "/proc/$1/exe" 2>/dev/null | sed 's/ (deleted)$//'; }
alive() { # whether the program of PERMANENT runs; PID
    PID=
    case $SERVICE in
        commands) PID=$(pids_of "$PERMANENT" | head -n 1); [ -n "$PID" ] ;;
        systemd)
            PID=$(systemctl show -p MainPID -- "$(fact unit)" 2>/dev/null | sed 's/^MainPID=//; s/^0$//')
            [ "$(systemctl is-active -- "$(fact unit)" 2>/dev/null)" = active ] ;;
        supervisord)
            said=$(control status "$(fact program)" 2>/dev/null)
            PID=$(printf '%s\n' "$said" | sed -n 's/.* RUNNING  *pid \([0-9]*\),.*/\1/p')
            [ -n "$PID" ] ;;
        binary) PID=$(cat "$(fact pid)" 2>/dev/null) && kill -0 "$PID" 2>/dev/null && return; PID=; return 1 ;;
        *) refuse "this bundle's service \`$SERVICE\` is not known here" ;;
    esac
}
ready() { # whether what starts the program can be asked at all; WHY
    case $SERVICE in
        systemd)
            command -v systemctl >/dev/null 2>&1 || { WHY="systemctl is not here"; return 1; }
            said=$(systemctl show -p LoadState -- "$(fact unit)" 2>&1)
            case $said in
                LoadState=loaded) ;;
                LoadState=*) WHY="systemd has no usable unit $(fact unit) (${said#*=})"; return 1 ;;
                *) WHY="systemd can't be asked: $said"; return 1 ;;
            esac
            [ "$(id -u)" = 0 ] || sudo -n -l systemctl restart -- "$(fact unit)" >/dev/null 2>&1 ||
                { WHY="$(id -un) may not call \`sudo -n systemctl restart -- $(fact unit)\`"; return 1; } ;;
        supervisord)
            command -v supervisorctl >/dev/null 2>&1 || { WHY="supervisorctl is not here"; return 1; }
            said=$(control status "$(fact program)" 2>&1)
            case $said in
                *"no such process"*|*"no such group"*)
                    # a section that was only written down is known after this, and started by nobody
                    control reread 2>/dev/null | grep -qxF "$GROUP: available" || { WHY="supervisord at $(fact server) has no program $(fact program)"; return 1; } ;;
                "$(fact program) "*) ;;
                *) WHY="supervisord at $(fact server) can't be asked: $said"; return 1 ;;
            esac ;;
        binary)
            draining=$(cat "$(fact pid).oldbin" 2>/dev/null)
            [ -z "$draining" ] || interrupted || {
                WHY="an exchange is under way: process $draining of $(fact pid).oldbin still answers requests, or was left behind; wait, or end it (kill -QUIT)"; return 1; }
            ! alive || [ "$(exe "$PID")" = "$(readlink -f "$(fact binary)")" ] || {
                WHY="process $PID of $(fact pid) runs $(exe "$PID"), not $(fact binary)"; return 1; } ;;
    esac
}
served() { head -n 1 "$T/.ci/served" 2>/dev/null; }
interrupted() { # an exchange of binaries by ci that nobody ended: MASTER is the old one's process
    MASTER=$(cat "$(fact pid).oldbin" 2>/dev/null) && [ -n "$(served)" ] && [ "$(served)" != "$PERMANENT" ] || return 1
    case $(exe "$MASTER") in "$REAL/versions/$(served)/"*) ;; *) return 1 ;; esac
}
look() { # STATE: absent stopped running unclear; RUNNING, PERMANENT; LEFT: what an interrupted run was to replace
    STATE= RUNNING= PERMANENT= WHY= PID= LEFT=
    REAL=$(cd "$T" 2>/dev/null && pwd -P) || REAL=$T
    if [ -L "$T/current" ]; then PERMANENT=$(readlink "$T/current"); PERMANENT=${PERMANENT#versions/}; fi
    foreign=
    [ -d "$T/versions" ] || for entry in "$T"/*; do [ -e "$entry" ] && foreign=$entry; done
    if [ -n "$foreign" ]; then STATE=unclear WHY="$foreign was not put there by ci"; return; fi
    if [ "$(served)" != "$PERMANENT" ] && [ -d "$T/versions/$(served)" ]; then LEFT=$(served); fi
    if ! ready; then STATE=unclear
    elif [ -z "$PERMANENT" ]; then STATE=absent
    elif alive; then STATE=running RUNNING=$PERMANENT
    else STATE=stopped; fi
}

# --- 3. what to do -------------------------------------------------------------------------------------------
choose() {
    [ ! -f "$T/.ci/bad/$V" ] || refuse "$V failed here before ($(head -n 1 "$T/.ci/bad/$V")); when the reason is gone: rm $T/.ci/bad/$V"
    FROM=${LEFT:-$PERMANENT}
    case $STATE in
        absent) STRATEGY=fresh REASON="nothing is installed" ;;
        stopped) STRATEGY=restart REASON="$PERMANENT is installed and does not run" ;;
        running)
            STRATEGY=restart REASON="$RUNNING runs"
            [ "$SERVICE" != binary ] || STRATEGY=exchange ;;
        *) refuse "$WHY" ;;
    esac
    if [ -d "$T/versions/$V" ] && [ "$(cat "$T/.ci/digest/$V" 2>/dev/null)" != "$CONTENT" ] && [ "$PERMANENT" = "$V" ]; then
        refuse "$V is there already, unpacked from another package"
    fi
    [ -z "$LEFT" ] || REASON="$REASON, and was not seen to serve: $LEFT was to be replaced, and that was interrupted"
    if [ "$RUNNING" = "$V" ] && [ "$(served)" = "$V" ]; then STRATEGY=nothing REASON="$V runs already"; return; fi
    way=$STRATEGY
    [ "$way" != exchange ] || way=hot
    [ -z "$WAY" ] || [ "$WAY" = "$way" ] || refuse "--strategy $WAY does not fit: $REASON, which means $STRATEGY"
    allowed "$way" || [ -n "$WAY" ] || refuse "$way is not allowed for $ENVIRONMENT: $REASON"
}
plan() {
    say "found:    $STATE${RUNNING:+, $RUNNING runs}${PID:+, process $PID}"
    say "plan:     $STRATEGY, because $REASON"
    case $STRATEGY in
        exchange) say "steps:    unpack $V beside $RUNNING; start its binary beside the old one, which ends after its last request; check it. On failure: back to $FROM" ;;
        restart) say "steps:    unpack $V beside $PERMANENT; stop what runs (an outage begins); start $V; check it. On failure: start $FROM again" ;;
        fresh) say "steps:    unpack $V; start it; check it. On failure: take it out again" ;;
    esac
}

# --- 4. doing it ---------------------------------------------------------------------------------------------
unpack() {
    [ ! -d "$T/versions/$V" ] || [ "$(cat "$T/.ci/digest/$V" 2>/dev/null)" != "$CONTENT" ] || return 0
    mkdir -p "$W/tree" "$T/versions" "$T/.ci/digest" "$T/.ci/sums" && tar -xzf "$B/packages/$(fact package)" -C "$W/tree" 2>"$W/tar" || {
        MESSAGE="the package does not unpack: $(head -n 1 "$W/tar")"; return 1; }
    if command -v sha256sum >/dev/null 2>&1; then
        (cd "$W/tree" && find . -type f ! -name COOKIE -exec sha256sum {} +) >"$T/.ci/sums/$V"
    fi
    rm -rf "$T/versions/$V" && mv "$W/tree" "$T/versions/$V" && printf '%s\n' "$CONTENT" >"$T/.ci/digest/$V" || {
        MESSAGE="versions/$V can't be put into place"; return 1; }
}
switch() { # switch VERSION: `current` leads there, by one rename; to nothing without one
    if [ -z "$1" ]; then rm -f "$T/current"; return; fi
    rm -f "$T/.current-$$"
    ln -s "versions/$1" "$T/.current-$$" && mv -T "$T/.current-$$" "$T/current" && [ "$(readlink "$T/current")" = "versions/$1" ]
}
inside() { # inside VERSION FILE: runs the file of the bundle with that version's directory
    DIRECTORY=$REAL/versions/$1 VERSION=$1 NAME=$N SLIPWAY_RELEASE=$REAL/versions/$1
    export DIRECTORY VERSION NAME SLIPWAY_RELEASE
    cd "$DIRECTORY" && exec sh "$B/service/$2"
}
end_processes() { # end_processes VERSION SECONDS: how long they may take before TERM, then KILL
    tries=$2
    for signal in 0 TERM KILL; do
        pids=$(pids_of "$1")
        [ -n "$pids" ] || return 0
        if [ "$signal" != 0 ]; then kill -s "$signal" $pids 2>/dev/null; tries=10; fi
        while [ "$tries" -gt 0 ] && [ -n "$(pids_of "$1")" ]; do sleep 1; tries=$((tries - 1)); done
    done
    [ -z "$(pids_of "$1")" ]
}
halt() { # halt VERSION: of a service of commands
    patience=0
    if [ -f "$B/service/stop" ] && (inside "$1" stop) >/dev/null 2>&1 </dev/null; then patience=30; fi
    end_processes "$1" "$patience"
}
launch() { # launch VERSION: starts it by its command, and waits until a process of it stays
    REAL=$(cd "$T" && pwd -P)
    apart=$(command -v setsid || command -v nohup) || { MESSAGE="neither setsid nor nohup is here"; return 1; }
    DIRECTORY=$REAL/versions/$1 VERSION=$1 NAME=$N SLIPWAY_RELEASE=$REAL/versions/$1
    export DIRECTORY VERSION NAME SLIPWAY_RELEASE
    (cd "$DIRECTORY" && "$apart" sh "$B/service/start" >"$T/output.log" 2>&1 </dev/null) &
    unset SLIPWAY_RELEASE
    tries=60 steady=0 last=
    while [ "$tries" -gt 0 ]; do
        sleep 1; tries=$((tries - 1))
        pid=$(pids_of "$1" | head -n 1)
        if [ -n "$pid" ] && [ "$pid" = "$last" ]; then steady=$((steady + 1)); else steady=0; fi
        last=$pid
        [ "$steady" -lt 2 ] || return 0
        [ -n "$pid" ] || [ "$tries" -gt 50 ] || break
    done
    MESSAGE="$1 does not stay up: $(tail -n 5 "$T/output.log" 2>/dev/null | cut -c 1-300 | tr '\n' ' ')"
    return 1
}
settled() { # a service of somebody else's: the same process for two seconds
    tries=60 steady=0 last=
    while [ "$tries" -gt 0 ]; do
        sleep 1; tries=$((tries - 1))
        if alive && [ "$PID" = "$last" ]; then steady=$((steady + 1)); else steady=0; fi
        last=$PID
        [ "$steady" -lt 2 ] || return 0
    done
    MESSAGE="$PERMANENT does not stay up"
    return 1
}
unit() { # systemd would refuse what follows on a version that crashed too often lately
    if [ "$(id -u)" = 0 ]; then as=; else as="sudo -n"; fi
    $as systemctl reset-failed -- "$(fact unit)" >/dev/null 2>&1
    $as systemctl "$1" -- "$(fact unit)"
}
supervised() { # a changed section is taken up, and no other program is touched
    case $(control reread 2>&1) in
        *"$GROUP: available"*|*"$GROUP: changed"*) control update "$GROUP" && control start "$(fact program)" ;;
        *) control restart "$(fact program)" ;;
    esac
}
exchange() { # exchange OLD NEW: stop, switch, start
    said=
    held || return 1
    case $SERVICE in
        commands) { [ -z "$1" ] || halt "$1"; } && switch "$2" && launch "$2" ;;
        systemd) switch "$2" && PERMANENT=$2 && said=$(unit restart 2>&1) && settled ;;
        supervisord) switch "$2" && PERMANENT=$2 && said=$(supervised 2>&1) && settled ;;
        binary)
            [ -f "$B/service/start" ] || { MESSAGE="the program does not run, and the bundle has no command that starts it"; return 1; }
            switch "$2" && launch "$2" ;;
    esac || { MESSAGE=${MESSAGE:-"$2 does not start: $said"}; return 1; }
}
beside() { # beside NEW: its binary beside the old one; MASTER is the old one's process
    MASTER=$PID pid=$(fact pid)
    held || return 1
    if [ -f "$B/service/test" ] && ! (inside "$1" test) >"$W/said" 2>&1 </dev/null; then
        MESSAGE="the new binary's test fails: $(tail -n 3 "$W/said" | tr '\n' ' ')"; return 1
    fi
    switch "$1" && kill -s USR2 "$MASTER" || return 1
    tries=20
    while [ "$tries" -gt 0 ]; do
        sleep 1; tries=$((tries - 1))
        if [ "$(cat "$pid.oldbin" 2>/dev/null)" = "$MASTER" ] && alive && [ "$PID" != "$MASTER" ]; then
            kill -s WINCH "$MASTER"; return 0
        fi
    done
    MESSAGE="the binary of $1 did not start beside process $MASTER; the program's error log says why"
    return 1
}
apart_again() { # apart_again OLD NEW: the old binary alone; workers of a new one that died serve on as orphans
    held || return 1
    switch "$1"; kill -s HUP "$MASTER" 2>/dev/null
    if alive && [ "$PID" != "$MASTER" ]; then kill -s QUIT "$PID"; fi
    tries=30
    while [ "$tries" -gt 0 ]; do
        if [ ! -e "$(fact pid).oldbin" ] && alive && [ "$PID" = "$MASTER" ]; then
            [ "$1" = "$2" ] || for orphan in $(pids_of "$2"); do kill -s QUIT "$orphan" 2>/dev/null; done
            return 0
        fi
        sleep 1; tries=$((tries - 1))
    done
    return 1
}
serves() {
    { printf '%s\n' "$1"; grep -vxF -e "$1" "$T/.ci/served" 2>/dev/null; } >"$T/.ci/served.part"
    mv "$T/.ci/served.part" "$T/.ci/served"
}
answers() { # a node that came up may have gone down again
    [ -f "$B/service/answers" ] || return 0
    tries=20
    until (inside "$1" answers) >"$W/said" 2>&1 </dev/null; do
        [ "$tries" -gt 0 ] && [ -z "$INTERRUPTED" ] || { MESSAGE="the node of $1 does not answer: $(tail -n 1 "$W/said")"; return 1; }
        sleep 1; tries=$((tries - 1))
    done
}
replace() {
    if [ "$SERVICE" = binary ] && [ -e "$(fact pid).oldbin" ] && interrupted; then
        if ! apart_again "$LEFT" "$PERMANENT"; then
            step_failed "undo the interrupted exchange"; MESSAGE="process $MASTER did not take over again"; return 1
        fi
        step_ok "undo the interrupted exchange"; look
    fi
    unpack || { step_failed "unpack $V"; return 1; }
    step_ok "unpack $V"
    [ "$FROM" = "$V" ] || printf '%s\n' "$FROM" >"$T/.ci/before-$V"
    change "$V" || {
        code=$?
        [ "$code" = 1 ] || [ -n "$INTERRUPTED" ] ||
            { mkdir -p "$T/.ci/bad" && printf '%s %s\n' "$(now)" "$(printf '%s' "$first" | tr '\n' ' ' | cut -c 1-300)" >"$T/.ci/bad/$V"; }
        rm -f "$T/.ci/before-$V"
        return "$code"
    }
}
change() { # change NEW: in place of what is there; on failure FROM again
    # from here on nobody stops it half-way
    trap 'INTERRUPTED=1' INT TERM
    what="start $1" undo=again
    [ "$STRATEGY" != exchange ] || what="start $1 beside $PERMANENT" undo=apart_again
    if if [ "$STRATEGY" = exchange ]; then beside "$1"; else exchange "$PERMANENT" "$1"; fi; then
        step_ok "$what"; what="health checks"
        if answers "$1" && healthy && serves "$1"; then
            step_ok "$what"
            # only now, when that was noted: it can't come back from then on
            [ "$STRATEGY" != exchange ] || kill -s QUIT "$MASTER"
            PERMANENT=$1; alive
            return 0
        fi
    fi
    step_failed "$what"
    first=$MESSAGE MESSAGE= OUTCOME=rolled_back
    if ! $undo "$FROM" "$1"; then
        step_failed "back to ${FROM:-nothing}"
        OUTCOME=failed MESSAGE="$first; and going back to ${FROM:-nothing} failed too: $MESSAGE"; return 4
    fi
    step_ok "back to ${FROM:-nothing}"
    case $STATE-$LEFT in
        running-*|stopped-?*) MESSAGE="$first; $FROM serves again"; return 4 ;;
        *) OUTCOME=failed MESSAGE="$first; it was taken out again"; return 1 ;;
    esac
}
again() { # again OLD NEW: what was there before; stopped, if it was
    case $STATE-$LEFT in
        running-*|stopped-?*) [ "$1" = "$2" ] || { exchange "$2" "$1"; return; } ;;
    esac
    case $SERVICE in
        systemd) unit stop ;;
        supervisord) control stop "$(fact program)" >/dev/null ;;
        *) halt "$2" ;;
    esac
    [ "$1" = "$2" ] || switch "$1"
}

# 4c. back, on demand; also when that was interrupted
rollback() {
    old=$(cat "$T/.ci/before-$V" 2>/dev/null) || refuse "$T has no record of an installation of $V by this bundle"
    [ -n "$old" ] || refuse "$V was a fresh install: there is nothing to go back to"
    [ "$STATE" != unclear ] || refuse "$WHY"
    [ "$PERMANENT" = "$V" ] || [ "$PERMANENT-$LEFT" = "$old-$V" ] || refuse "${PERMANENT:-nothing} is in place, not $V"
    [ -d "$T/versions/$old" ] || refuse "versions/$old is gone"
    say "plan:     back from $V to $old"
    FROM=$V STRATEGY=restart
    [ "$SERVICE-$STATE" != binary-running ] || STRATEGY=exchange
    [ -n "$YES" ] || { say "nothing was changed; --yes does it"; exit 0; }
    lock
    [ -z "$LEFT" ] || [ "$STRATEGY" != exchange ] || refuse "an exchange was interrupted; run it without --rollback"
    code=0
    change "$old" || code=$?
    STRATEGY=rollback
    if [ "$code" != 0 ]; then OUTCOME=failed; printf 'failed:   %s\n' "$MESSAGE" >&2; exit "$code"; fi
    rm -f "$T/.ci/before-$V"; FROM=$old
    OUTCOME=rolled_back MESSAGE="rolled back by hand to $old"
    say "done:     $old runs again${PID:+, process $PID}"
    exit 0
}

