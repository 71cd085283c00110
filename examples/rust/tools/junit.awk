# A JUnit report of what `cargo test` prints.
BEGIN { print "<testsuite>" }
/^test .* \.\.\. (ok|FAILED|ignored)$/ {
    inner = $NF == "FAILED" ? "<failure/>" : $NF == "ignored" ? "<skipped/>" : ""
    printf "  <testcase name=\"%s\">%s</testcase>\n", $2, inner
}
END { print "</testsuite>" }
