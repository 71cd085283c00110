# --- the way through -----------------------------------------------------------------------------------------
look
PID_BEFORE=$PID
[ -z "$ROLLBACK" ] || rollback
choose
case $STRATEGY in nothing|commit) ;; *) check_place ;; esac
plan
if [ -z "$YES" ]; then
    if [ "$STRATEGY" = nothing ]; then say "nothing to do"; else say "nothing was changed; --yes does it"; fi
    exit 0
fi
if [ "$STRATEGY" = nothing ]; then OUTCOME=nothing; say "nothing to do"; exit 0; fi
lock
look
PID_BEFORE=$PID
again=$STRATEGY
choose
[ "$again" = "$STRATEGY" ] || refuse "the host changed while it was being asked; run it again"
case $STRATEGY in hot) hot ;; commit) commit || OUTCOME=failed; [ -z "$OUTCOME" ] ;; *) replace ;; esac
code=$?
if [ "$code" = 0 ]; then
    OUTCOME=done
    # what a roll-back goes to
    if [ -n "$FROM" ] && [ "$FROM" != "$V" ] && [ -d "$T/releases/$V" ]; then
        printf '%s\n' "$FROM" >"$T/releases/$V/.replaced"
    fi
    say "done:     $V runs${PID:+, process $PID}"
    exit 0
fi
OUTCOME=${OUTCOME:-failed}
printf 'failed:   %s\n' "$MESSAGE" >&2
exit "$code"
