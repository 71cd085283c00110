# --- 2. what is here -----------------------------------------------------------------------------------------
# DIR/versions/VERSION, never changed once it is there; DIR/current leads to one; DIR/.ci/served: what served, last first
SERVICE=$(fact service)
CONTENT=$(fact content)
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
        binary) PID=$(cat "$(fact pid)" 2>/dev/null); [ -n "$PID" ] && kill -0 "$PID" 2>/dev/null || { PID=; return 1; } ;;
        *) refuse "this bundle's service \`$SERVICE\` is not known here" ;;
    esac
}
look() { # STATE: absent stopped running unclear; RUNNING, PERMANENT
    STATE= RUNNING= PERMANENT= WHY= PID= BOOT=
    REAL=$(cd "$T" 2>/dev/null && pwd -P) || REAL=$T
    if [ -L "$T/current" ]; then PERMANENT=$(readlink "$T/current"); PERMANENT=${PERMANENT#versions/}; fi
    foreign=
    [ -d "$T/versions" ] || for entry in "$T"/*; do [ -e "$entry" ] && foreign=$entry; done
    if [ -n "$foreign" ]; then STATE=unclear WHY="$foreign was not put there by ci"
    elif [ -z "$PERMANENT" ]; then STATE=absent
    elif alive; then STATE=running RUNNING=$PERMANENT
    else STATE=stopped; fi
}

# --- 3. what to do -------------------------------------------------------------------------------------------
choose() {
    [ ! -f "$T/.ci/bad/$V" ] || refuse "$V failed here before ($(head -n 1 "$T/.ci/bad/$V")); when the reason is gone: rm $T/.ci/bad/$V"
    FROM=$PERMANENT
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
    if [ "$RUNNING" = "$V" ] && [ "$(head -n 1 "$T/.ci/served" 2>/dev/null)" = "$V" ]; then STRATEGY=nothing REASON="$V runs already"; return; fi
    [ -z "$WAY" ] || [ "$WAY" = "$STRATEGY" ] || refuse "--strategy $WAY does not fit: $REASON, which means $STRATEGY"
    way=$STRATEGY
    [ "$way" != exchange ] || way=hot
    allowed "$way" || [ -n "$WAY" ] || refuse "$way is not allowed for $ENVIRONMENT: $REASON"
}
plan() {
    say "found:    $STATE${RUNNING:+, $RUNNING runs}${PID:+, process $PID}"
    say "plan:     $STRATEGY, because $REASON"
    case $STRATEGY in
        exchange) say "steps:    unpack $V beside $RUNNING; start its binary beside the old one, which ends after its last request; check it. On failure: back to $RUNNING" ;;
        restart) say "steps:    unpack $V beside ${PERMANENT:-nothing}; stop what runs (an outage begins); start $V; check it. On failure: start ${PERMANENT:-nothing} again" ;;
        fresh) say "steps:    unpack $V; start it; check it" ;;
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
settled() { # a service of somebody else's: alive for two seconds
    tries=60 steady=0
    while [ "$tries" -gt 0 ]; do
        sleep 1; tries=$((tries - 1))
        if alive; then steady=$((steady + 1)); else steady=0; fi
        [ "$steady" -lt 2 ] || return 0
    done
    MESSAGE="$PERMANENT does not stay up"
    return 1
}
unit() { if [ "$(id -u)" = 0 ]; then systemctl "$1" -- "$(fact unit)"; else sudo -n systemctl "$1" -- "$(fact unit)"; fi; }
exchange() { # exchange OLD NEW: stop, switch, start
    case $SERVICE in
        commands) { [ -z "$1" ] || halt "$1"; } && switch "$2" && launch "$2" ;;
        systemd) switch "$2" && PERMANENT=$2 && said=$(unit restart 2>&1) && settled ;;
        supervisord) switch "$2" && PERMANENT=$2 && control restart "$(fact program)" >"$W/said" 2>&1 && settled ;;
        binary)
            [ -f "$B/service/start" ] || { MESSAGE="the program does not run, and the bundle has no command that starts it"; return 1; }
            switch "$2" && launch "$2" ;;
    esac || { MESSAGE=${MESSAGE:-"$2 does not start: ${said:-$(cat "$W/said" 2>/dev/null)}"}; return 1; }
}
beside() { # the new binary beside the old one; MASTER is the old one's process
    MASTER=$PID pid=$(fact pid)
    [ ! -e "$pid.oldbin" ] || { MESSAGE="an exchange is under way: $pid.oldbin is there"; return 1; }
    if [ -f "$B/service/test" ] && ! (inside "$V" test) >"$W/said" 2>&1 </dev/null; then
        MESSAGE="the new binary's test fails: $(tail -n 3 "$W/said" | tr '\n' ' ')"; return 1
    fi
    switch "$V" && kill -s USR2 "$MASTER" || return 1
    tries=20
    while [ "$tries" -gt 0 ]; do
        sleep 1; tries=$((tries - 1))
        if [ "$(cat "$pid.oldbin" 2>/dev/null)" = "$MASTER" ] && alive && [ "$PID" != "$MASTER" ]; then
            kill -s WINCH "$MASTER"; return 0
        fi
    done
    MESSAGE="the binary of $V did not start beside process $MASTER"
    return 1
}
apart_again() { # the old binary alone
    switch "$FROM"; kill -s HUP "$MASTER" 2>/dev/null
    if alive && [ "$PID" != "$MASTER" ]; then kill -s QUIT "$PID"; fi
    tries=30
    while [ "$tries" -gt 0 ]; do
        if [ ! -e "$(fact pid).oldbin" ] && alive && [ "$PID" = "$MASTER" ]; then return 0; fi
        sleep 1; tries=$((tries - 1))
    done
    return 1
}
serves() {
    { printf '%s\n' "$1"; grep -vxF -e "$1" "$T/.ci/served" 2>/dev/null; } >"$T/.ci/served.part"
    mv "$T/.ci/served.part" "$T/.ci/served"
}
replace() {
    unpack || { step_failed "unpack $V"; OUTCOME=failed; return 1; }
    step_ok "unpack $V"
    if [ "$FROM" != "$V" ]; then printf '%s\n' "$FROM" >"$T/.ci/before-$V"; fi
    if [ "$STRATEGY" = exchange ]; then
        if beside && healthy; then
            kill -s QUIT "$MASTER"; step_ok "start $V beside $FROM"; serves "$V"; return 0
        fi
        step_failed "start $V beside $FROM"; first=$MESSAGE; undo=apart_again
    else
        if exchange "$FROM" "$V"; then
            step_ok "start $V"
            if healthy; then step_ok "health checks"; serves "$V"; look; return 0; fi
            step_failed "health checks"
        else
            step_failed "start $V"
        fi
        first=$MESSAGE undo=again
    fi
    OUTCOME=rolled_back
    if $undo; then step_ok "back to ${FROM:-nothing}"; MESSAGE="$first; ${FROM:-nothing} serves again"
    else step_failed "back to ${FROM:-nothing}"; OUTCOME=failed MESSAGE="$first; and going back to ${FROM:-nothing} failed too: $MESSAGE"; fi
    rm -f "$T/.ci/before-$V"
    mkdir -p "$T/.ci/bad" && printf '%s %s\n' "$(now)" "$(printf '%s' "$first" | tr '\n' ' ' | cut -c 1-300)" >"$T/.ci/bad/$V"
    return 4
}
again() { # what was there before; stopped, if it was
    [ "$STATE" = running ] && [ "$FROM" != "$V" ] && { exchange "$V" "$FROM"; return; }
    case $SERVICE in
        systemd) unit stop ;;
        supervisord) control stop "$(fact program)" >/dev/null ;;
        *) halt "$V" ;;
    esac
    [ "$FROM" = "$V" ] || switch "$FROM"
}

# 4c. back, on demand
rollback() {
    old=$(cat "$T/.ci/before-$V" 2>/dev/null) || refuse "$T has no record of an installation of $V by this bundle"
    [ -n "$old" ] || refuse "$V was a fresh install: there is nothing to go back to"
    [ "$PERMANENT" = "$V" ] || refuse "${PERMANENT:-nothing} is in place, not $V"
    [ -d "$T/versions/$old" ] || refuse "versions/$old is gone"
    say "plan:     back from $V to $old"
    FROM=$old STRATEGY=rollback
    [ -n "$YES" ] || { say "nothing was changed; --yes does it"; exit 0; }
    lock
    if [ "$SERVICE" = binary ] && [ "$STATE" = running ]; then
        new=$V V=$old
        if beside; then kill -s QUIT "$MASTER"; well=yes; else FROM=$new; apart_again; well=; fi
        V=$new
    else
        if exchange "$V" "$old"; then well=yes; else well=; fi
    fi
    if [ -z "$well" ]; then OUTCOME=failed; MESSAGE="$old does not start: $MESSAGE"; exit 1; fi
    step_ok "start $old"; serves "$old"; rm -f "$T/.ci/before-$V"; FROM=$old
    OUTCOME=rolled_back MESSAGE="rolled back by hand to $old"
    look
    say "done:     $old runs again${PID:+, process $PID}"
    exit 0
}

