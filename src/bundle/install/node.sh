# --- 2. what is here -----------------------------------------------------------------------------------------
# one line, no quotes of the shell, no backslashes: the release's script passes it through echo
EXPRESSION='W=fun(X)->io_lib:format("~w",[X])end,
R=try release_handler:which_releases() catch _:_->
case file:consult(filename:join([code:root_dir(),"releases","RELEASES"])) of
{ok,[L0]}->[{N0,V0,[D0||{_,_,D0}<-Ds0],S0}||{release,N0,V0,_,Ds0,S0}<-L0];
_->[{element(1,init:script_id()),element(2,init:script_id()),[],permanent}] end end,
lists:flatten(lists:join("|",[["root=",code:root_dir()],["pid=",os:getpid()],["init=",try {element(1,init:get_status()),application:which_applications()} of {I,_}->W(I) catch _:_->"stopping" end],
["erts=",erlang:system_info(version)],["boot=",W(erlang:system_info(creation)),W(whereis(kernel_sup))]]
++[["rel=",V,":",atom_to_list(S)]||{_,V,_,S}<-R]
++[["lib=",V,":",filename:basename(D)]||{_,V,Ds,_}<-R,D<-Ds]
++[["app=",atom_to_list(A),"-",V]||{A,_,V}<-application:loaded_applications()])).'
# modules that are loaded with other code than $T/.ci/modules lists: `stale=NAME`; ends with `done`
MODULES='{ok,L}=file:consult(filename:join([code:root_dir(),".ci","modules"])),
lists:flatten(lists:join("|",[["stale=",atom_to_list(M)]||{M,H}<-L,erlang:module_loaded(M),
lists:flatten([io_lib:format("~2.16.0b",[X])||<<X>><=M:module_info(md5)])=/=H]++["done=yes"])).'
EXPRESSION=$(printf '%s' "$EXPRESSION" | tr '\n' ' ')
MODULES=$(printf '%s' "$MODULES" | tr '\n' ' ')
ask() { # ask EXPRESSION: the node's answer, a line for each part
    limit 30 "$TOOL" eval "$1" 2>&1 </dev/null | tr -d '\n' | sed 's/^[^"]*"//; s/"[^"]*$//; s/" *"//g' | tr '|' '\n'
    echo
}
part() { printf '%s\n' "$ANSWER" | sed -n "s/^$1=//p"; }
node_pids() { # virtual machines of this directory, those of its tools left out
    for exe in /proc/[0-9]*/exe; do
        program=$(readlink "$exe" 2>/dev/null) || continue
        case $program in "$T"/erts-*/beam*|"$REAL"/erts-*/beam*) ;; *) continue ;; esac
        directory=${exe%/exe}
        case $(tr '\0' ' ' <"$directory/cmdline" 2>/dev/null) in *start_clean*|*no_dot_erlang*) continue ;; esac
        printf '%s ' "${directory#/proc/}"
    done
}
script_version() { if [ -x "$T/bin/slipway" ]; then start_version; return; fi; sed -n 's/^REL_VSN="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "$T/bin/$N" 2>/dev/null | head -n 1; }
start_version() { cut -d ' ' -f 2 "$T/releases/start_erl.data" 2>/dev/null; }
look() { # STATE: absent stopped running current unreachable restarting inconsistent unclear; RUNNING, PERMANENT
    STATE= RUNNING= PERMANENT= WHY= ANSWER= BOOT= NODE_ERTS= PID=
    REAL=$(cd "$T" 2>/dev/null && pwd -P) || REAL=$T
    # a package of `mix release` brings what speaks as rebar3's script does
    TOOL=$T/bin/slipway
    [ -x "$TOOL" ] || TOOL=$T/bin/$N
    PIDS=$(node_pids)
    if [ -x "$T/bin/$N" ]; then ANSWER=$(ask "$EXPRESSION"); fi
    if [ -z "$(part init)" ]; then
        if [ -n "$PIDS" ]; then
            STATE=unreachable WHY="process $PIDS lives but its node does not answer (cookie, node name, epmd, or it hangs)"
        elif [ ! -e "$T/bin/$N" ] && [ ! -e "$T/releases/start_erl.data" ] && [ ! -e "$T/releases/RELEASES" ]; then
            STATE=absent
        elif [ ! -d /proc/1 ]; then
            STATE=unclear WHY="/proc does not show every process, so nobody can prove that it does not run"
        else
            STATE=stopped RUNNING= PERMANENT=$(start_version)
        fi
        return
    fi
    PID=$(part pid) BOOT=$(part boot) NODE_ERTS=$(part erts)
    PERMANENT=$(part rel | sed -n 's/:permanent$//p' | head -n 1)
    RUNNING=$(part rel | sed -n 's/:current$//p' | head -n 1)
    if [ "$(part init)" != started ]; then
        STATE=restarting WHY="the node is starting or stopping"
    elif [ "$(part root)" != "$T" ] && [ "$(part root)" != "$REAL" ]; then
        STATE=inconsistent WHY="the node answers from $(part root), not from $T"
    elif [ -z "$PERMANENT" ]; then
        STATE=inconsistent WHY="the node knows no permanent release"
    elif [ "$(start_version)" != "$PERMANENT" ] || [ "$(script_version)" != "$PERMANENT" ]; then
        STATE=inconsistent
        WHY="$PERMANENT is permanent, but start_erl.data says $(start_version) and bin/$N says $(script_version)"
    elif [ -n "$RUNNING" ]; then
        STATE=current
    else
        STATE=running RUNNING=$PERMANENT
    fi
}
stale_modules() { # stale_modules FILE: modules that run other code than the file lists, or `unknown`
    cp "$1" "$T/.ci/modules" || { echo unknown; return; }
    said=$(ask "$MODULES")
    rm -f "$T/.ci/modules"
    case $said in *done=yes*) printf '%s\n' "$said" | sed -n 's/^stale=//p' | tr '\n' ' ' ;; *) echo unknown ;; esac
}

# --- 3. what to do -------------------------------------------------------------------------------------------
upgrade_line() { facts from | awk -F '\t' -v v="$1" '$1 == v { print; exit }'; }
hot_problems() { # why the running version can't be upgraded hot, a line each
    line=$(upgrade_line "$RUNNING")
    [ -n "$line" ] || { say "the bundle was not made for $RUNNING"; return; }
    if [ "$(field 2 "$line")" != hot ]; then say "$(field 3 "$line")"; return; fi
    [ "$NODE_ERTS" = "$ERTS" ] || say "the node runs erts $NODE_ERTS, $V was built with $ERTS"
    for library in $(facts "left_out" | awk -F '\t' -v v="$RUNNING" '$1 == v { print $2 }'); do
        [ -d "$T/$library" ] || say "$library is not in $T"
    done
}
choose() {
    case $STATE in
        absent) STRATEGY=fresh REASON="nothing is installed" ;;
        stopped) STRATEGY=fresh REASON="${PERMANENT:-it} is installed and no process of it runs" FROM=$PERMANENT ;;
        running)
            FROM=$RUNNING
            if [ "$RUNNING" = "$V" ]; then STRATEGY=nothing REASON="$V runs already"; return; fi
            problems=$(hot_problems)
            known=$(upgrade_line "$RUNNING")
            if [ "$WAY" = hot ] && [ -n "$problems" ]; then refuse "no hot upgrade: $problems"; fi
            if [ -z "$problems" ] && allowed hot && { [ "$(fact prefer)" = hot ] || [ "$WAY" = hot ]; } && [ "$WAY" != restart ]; then
                STRATEGY=hot REASON="$RUNNING runs"
            elif [ -z "$known" ] && [ "$WAY" != restart ]; then
                refuse "$RUNNING runs, and this bundle was made to replace:$(facts from | cut -f 1 | sed 's/^/ /' | tr '\n' ','  | sed 's/,$//; s/^$/ nothing/'). Ask for a bundle for $RUNNING, or give --strategy restart to stop it and start $V"
            else
                STRATEGY=restart REASON="${problems:-restart is preferred}"
            fi ;;
        current)
            FROM=$RUNNING
            [ "$RUNNING" = "$V" ] || refuse "$RUNNING runs but was never made permanent (a restart boots $PERMANENT); finish or undo that first: bin/$N upgrade $RUNNING, or bin/$N upgrade $PERMANENT"
            STRATEGY=commit REASON="$V runs and only has to be made permanent" ;;
        *) refuse "$WHY. Nothing was changed: a fresh install over a live node would destroy it" ;;
    esac
    [ -z "$WAY" ] || [ "$WAY" = "$STRATEGY" ] || [ "$STRATEGY" = nothing ] || [ "$STRATEGY" = commit ] ||
        refuse "--strategy $WAY does not fit: $REASON, which means $STRATEGY"
    case $STRATEGY in
        hot|restart|fresh) allowed "$STRATEGY" || [ "$WAY" = "$STRATEGY" ] || refuse "$STRATEGY is not allowed for $ENVIRONMENT: $REASON" ;;
    esac
}
local_files() { # files of the old version that were edited on this host: they are kept
    [ -n "$FROM" ] || return 0
    for file in sys.config vm.args; do
        shipped=$(facts shipped | awk -F '\t' -v v="$FROM" -v f="$file" '$1 == v && $2 == f { print $3; exit }')
        [ -n "$shipped" ] && [ -f "$T/releases/$FROM/$file" ] && [ "$(sum "$T/releases/$FROM/$file")" != "$shipped" ] && say "$file"
    done
    return 0
}
plan() {
    say "found:    $STATE${RUNNING:+, $RUNNING runs}${PERMANENT:+, $PERMANENT would boot}${PID:+, process $PID}"
    say "plan:     $STRATEGY, because $REASON"
    case $STRATEGY in
        hot) say "steps:    unpack $V beside $RUNNING; install it without making it permanent; check the code that is loaded;
          ask the health checks for $(fact soak) s; make it permanent. The node keeps running. On failure: back to $RUNNING" ;;
        restart) say "steps:    unpack $V beside $RUNNING; stop $RUNNING (an outage begins); start $V; check it. On failure: start $RUNNING again" ;;
        fresh) say "steps:    unpack $V; start it; check it" ;;
        commit) say "steps:    make $V permanent" ;;
    esac
    for file in $(local_files); do say "kept:     releases/$FROM/$file was edited on this host: $V gets it too"; done
}

# --- 4. doing it ---------------------------------------------------------------------------------------------
start_node() { # start_node VERSION: until it answers with that version, or is gone for good
    "$T/bin/$N" daemon >"$W/daemon" 2>&1 </dev/null &
    starter=$!
    tries=90 gone=0
    while [ "$tries" -gt 0 ]; do
        look
        case $STATE in running|current) [ "$RUNNING" != "$1" ] || return 0 ;; esac
        if [ -n "$PIDS" ]; then gone=0; else gone=$((gone + 1)); fi
        [ "$gone" -lt 10 ] || break
        tries=$((tries - 1)); sleep 1
    done
    kill "$starter" 2>/dev/null
    log=$(ls -t "$T"/log/erlang.log.* "$T"/tmp/log/erlang.log.* 2>/dev/null | head -n 1)
    MESSAGE="$1 does not start: ${WHY:-see $T/log} $( [ -n "$log" ] && tail -n 5 "$log" | cut -c 1-300 | tr '\n' ' ')"
    return 1
}
stop_node() { # by the script, then by signals
    limit 60 "$T/bin/$N" stop >/dev/null 2>&1 </dev/null
    for sign in TERM KILL; do
        tries=10
        while pids=$(node_pids); [ -n "$pids" ] && [ "$tries" -gt 0 ]; do
            [ "$tries" -lt 10 ] || for pid in $pids; do kill -s "$sign" "$pid" 2>/dev/null; done
            tries=$((tries - 1)); sleep 1
        done
    done
    [ -z "$(node_pids)" ]
}
save() { # what a way back needs
    # an earlier attempt got as far as the switch: what it saved is what was before
    [ "$FROM" != "$V" ] || [ ! -d "$T/.ci/before-$V" ] || return 0
    rm -rf "$T/.ci/before-$V"
    mkdir -p "$T/.ci/before-$V" || return 1
    for file in bin releases/RELEASES releases/start_erl.data; do
        [ ! -e "$T/$file" ] || cp -Rp "$T/$file" "$T/.ci/before-$V/" || return 1
    done
    printf '%s\n' "$FROM" >"$T/.ci/before-$V/from"
    printf '%s\n' "$STRATEGY" >"$T/.ci/before-$V/strategy"
}
switch_back() { # the script, RELEASES and start_erl.data of before
    saved=$T/.ci/before-$V
    if [ -d "$saved/bin" ]; then
        rm -rf "$T/bin.new" && cp -Rp "$saved/bin" "$T/bin.new" && rm -rf "$T/bin" && mv "$T/bin.new" "$T/bin" || return 1
    else
        rm -rf "$T/bin"
    fi
    for file in RELEASES start_erl.data; do
        if [ -e "$saved/$file" ]; then cp -p "$saved/$file" "$T/releases/$file" || return 1; else rm -f "$T/releases/$file"; fi
    done
}
remove_leftovers() { # of the version that comes: release_handler never replaces a file
    used=$(part lib | awk -F : -v v="$V" '$1 != v { print $2 }'; part app)
    case $(part rel | awk -F : -v v="$V" '$1 == v { print $2 }') in
        permanent|current) return ;;
        unpacked|old) limit 120 "$TOOL" uninstall "$V" >/dev/null 2>&1 </dev/null ;;
    esac
    rm -rf "$T/releases/$V" "$T/releases/$N-$V.tar.gz" "$T/releases/$N-$V.tar.gz.part"
    for library in $(facts app | tr '\t' '-'); do
        printf '%s\n' "$used" | grep -qxF "$library" || rm -rf "$T/lib/$library"
    done
}
keep_local() { for file in $(local_files); do cp -p "$T/releases/$FROM/$file" "$T/releases/$V/$file" || return 1; done; }

# 4a. hot
hot() {
    before=$BOOT package=$(field 4 "$(upgrade_line "$FROM")")
    drift=$(stale_modules "$B/modules/$FROM")
    [ -z "$drift" ] || refuse "the node runs other code than $FROM shipped: $drift. A restart ends that: --strategy restart"
    save || refuse "$T/.ci can't be written"
    remove_leftovers
    cp "$B/packages/$package" "$T/releases/$N-$V.tar.gz.part" && mv "$T/releases/$N-$V.tar.gz.part" "$T/releases/$N-$V.tar.gz" &&
        said=$(limit 300 "$TOOL" unpack "$V" 2>&1 </dev/null) && [ -f "$T/releases/$V/start.boot" ] && keep_local || {
        step_failed "unpack $V"; MESSAGE="$V could not be unpacked: ${said:-no space}"; undo_unpack; return 1; }
    step_ok "unpack $V"
    said=$(limit 330 "$TOOL" install --no-permanent "$V" 2>&1 </dev/null); code=$?
    settle
    if [ "$STATE" != current ] || [ "$RUNNING" != "$V" ]; then
        step_failed "install $V"
        MESSAGE="$V was not installed (code $code): $(printf '%s' "$said" | grep -e ERROR -e failed -e exception | head -n 3)"
        back "$FROM"; return $?
    fi
    step_ok "install $V, not permanent yet"
    stale=$(stale_modules "$B/modules/$V")
    if [ "$BOOT" != "$before" ]; then MESSAGE="the node restarted on the way"; step_failed "check the node"; back "$FROM"; return $?; fi
    if [ -n "$stale" ]; then MESSAGE="these modules still run other code than $V has: $stale"; step_failed "check the loaded code"; back "$FROM"; return $?; fi
    step_ok "check the loaded code"
    if ! healthy; then step_failed "health checks"; back "$FROM"; return $?; fi
    step_ok "health checks"
    commit || { back "$FROM"; return $?; }
    rm -f "$T/releases/$N-$V.tar.gz"
}
commit() {
    said=$(limit 330 "$TOOL" install "$V" 2>&1 </dev/null)
    look
    if [ "$STATE" = running ] && [ "$RUNNING" = "$V" ]; then step_ok "make $V permanent"; return 0; fi
    step_failed "make $V permanent"
    MESSAGE="$V was not made permanent: $STATE $WHY $(printf '%s' "$said" | tail -n 2)"
    return 1
}
settle() { # a node that restarts needs a while until it answers
    tries=60
    look
    while [ "$tries" -gt 0 ]; do
        case $STATE in running|current|stopped|inconsistent) return ;; esac
        sleep 1; tries=$((tries - 1)); look
    done
}
undo_unpack() { look; remove_leftovers; OUTCOME=failed; }
back() { # back OLD: 1 when nothing had changed, 4 when the old version had to be brought back
    old=$1
    if [ "$STATE" = running ] && [ "$RUNNING" = "$old" ] && [ "$BOOT" = "$before" ]; then
        remove_leftovers
        MESSAGE="$MESSAGE; $old still serves, untouched"; OUTCOME=failed; return 1
    fi
    OUTCOME=rolled_back
    case $STATE in
        current|running)
            if [ "$RUNNING" != "$old" ]; then
                limit 330 "$TOOL" downgrade "$old" >/dev/null 2>&1 </dev/null
                settle
            fi ;;
    esac
    if [ "$STATE" = running ] && [ "$RUNNING" = "$old" ]; then
        [ "$BOOT" = "$before" ] && kept="the node kept running" || kept="the node restarted, the state of its processes is lost"
        remove_leftovers
        step_ok "back to $old"; MESSAGE="$MESSAGE; back on $old, $kept"; return 4
    fi
    replace_with_saved "$old"
}
replace_with_saved() { # the hard way back: stop whatever runs, boot the old version
    OUTCOME=rolled_back
    if stop_node && switch_back && start_node_again "$1"; then
        step_ok "start $1 again"; MESSAGE="$MESSAGE; $1 was started again, the state of its processes is lost"
    else
        step_failed "start $1 again"; OUTCOME=failed
        MESSAGE="$MESSAGE; and $1 does not run either: see RUNBOOK.md, a person is needed now"
    fi
    return 4
}
start_node_again() { first=$MESSAGE; start_node "$1"; code=$?; MESSAGE=$first; return "$code"; }

# 4b. fresh and restart: the same but for the node that has to end first
replace() {
    tree=$W/tree
    mkdir -p "$tree" && tar -xzf "$B/packages/$(fact package)" -C "$tree" 2>"$W/tar" && [ -x "$tree/bin/$N" ] && [ -d "$tree/releases/$V" ] || {
        MESSAGE="the package does not unpack: $(head -n 1 "$W/tar")"; step_failed "unpack $V"; OUTCOME=failed; return 1; }
    save || { MESSAGE="$T/.ci can't be written"; OUTCOME=failed; return 1; }
    [ -n "$RUNNING" ] && remove_leftovers
    mkdir -p "$T/lib" "$T/releases" || return 1
    for entry in "$tree"/lib/* "$tree"/erts-*; do
        part=${entry#"$tree"/}
        # what runs may be in use; a directory of the very same version stays unless nothing runs
        if [ -e "$T/$part" ] && [ -n "$RUNNING" ]; then continue; fi
        rm -rf "$T/$part" && mv "$entry" "$T/$part" || { MESSAGE="$part can't be put into place"; OUTCOME=failed; return 1; }
    done
    rm -rf "$tree/kept"; mkdir "$tree/kept"
    [ -z "$FROM" ] || for file in $(local_files); do cp -p "$T/releases/$FROM/$file" "$tree/kept/$file"; done
    rm -rf "$T/releases/$V" && mv "$tree/releases/$V" "$T/releases/$V" && cp -p "$tree"/kept/* "$T/releases/$V/" 2>/dev/null
    [ -d "$T/releases/$V" ] || { MESSAGE="releases/$V can't be put into place"; OUTCOME=failed; return 1; }
    step_ok "unpack $V"
    old=$RUNNING
    if [ -n "$old" ]; then
        if ! stop_node; then
            MESSAGE="$old could not be stopped"; step_failed "stop $old"; OUTCOME=failed; return 1
        fi
        step_ok "stop $old"
    fi
    rm -rf "$T/bin.new" && mv "$tree/bin" "$T/bin.new" && rm -rf "$T/bin" && mv "$T/bin.new" "$T/bin" &&
        for file in "$tree"/releases/*; do [ ! -f "$file" ] || cp -p "$file" "$T/releases/" || return 1; done
    if start_node "$V"; then
        stale=$(stale_modules "$B/modules/$V")
        if [ -z "$stale" ]; then
            step_ok "start $V"
            if healthy; then step_ok "health checks"; return 0; fi
            step_failed "health checks"
        else
            MESSAGE="these modules run other code than $V has: $stale"; step_failed "check the loaded code"
        fi
    else
        step_failed "start $V"
    fi
    if [ -n "$old" ]; then replace_with_saved "$old"; return $?; fi
    stop_node
    switch_back && rm -rf "$T/releases/$V" "$T/.ci/before-$V"
    OUTCOME=rolled_back
    MESSAGE="$MESSAGE; $V was stopped and taken away again, nothing runs, as before"
    return 4
}

# 4c. back, on demand
rollback() {
    saved=$T/.ci/before-$V
    [ -d "$saved" ] || refuse "$T has no record of an installation of $V by this bundle"
    old=$(cat "$saved/from") way=$(cat "$saved/strategy")
    [ -n "$old" ] || refuse "$V was a fresh install: there is nothing to go back to"
    [ -d "$T/releases/$old" ] || refuse "releases/$old is gone"
    case $STATE in
        running|current) [ "$RUNNING" = "$V" ] || refuse "$RUNNING runs, not $V" ;;
        stopped) ;;
        *) refuse "$WHY" ;;
    esac
    say "plan:     back from $V to $old, $([ "$way" = hot ] && [ "$STATE" != stopped ] && echo "by the relup if it has a way down, else" || echo "by") stopping $V and starting $old"
    FROM=$old STRATEGY=rollback
    [ -n "$YES" ] || { say "nothing was changed; --yes does it"; exit 0; }
    lock
    before=$BOOT
    if [ "$way" = hot ] && [ "$STATE" != stopped ]; then
        limit 330 "$TOOL" downgrade "$old" >"$W/said" 2>&1 </dev/null
        settle
        if [ "$STATE" = running ] && [ "$RUNNING" = "$old" ]; then
            step_ok "downgrade to $old"; done_back "$old"
        fi
        step_failed "downgrade to $old"
    fi
    if stop_node && switch_back && start_node "$old"; then step_ok "start $old"; done_back "$old"; fi
    OUTCOME=failed; MESSAGE="$old does not start: ${MESSAGE:-see $T/log}"
    exit 1
}
done_back() {
    rm -rf "$T/.ci/before-$V"
    OUTCOME=rolled_back MESSAGE="rolled back by hand to $1"
    say "done:     $1 runs again${PID:+, process $PID}"
    exit 0
}

