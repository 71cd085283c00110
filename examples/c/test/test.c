#include "words.h"

#include <stdio.h>

static const struct {
    const char *name, *text;
    size_t words, longest;
} cases[] = {
    {"nothing", "", 0, 0},
    {"only_spaces", " \t\n", 0, 0},
    {"one_word", "slipway", 1, 7},
    {"several", "to be  or not\nto be", 6, 3},
};

int main(int argc, char **argv) {
    size_t count = sizeof cases / sizeof *cases, failures = 0;
    FILE *report = argc > 1 ? fopen(argv[1], "w") : NULL;
    if (argc > 1 && !report) {
        perror(argv[1]);
        return 2;
    }
    if (report) fprintf(report, "<testsuite name=\"words\" tests=\"%zu\">\n", count);
    for (size_t i = 0; i < count; i++) {
        size_t words = count_words(cases[i].text), longest = longest_word(cases[i].text);
        int good = words == cases[i].words && longest == cases[i].longest;
        failures += !good;
        printf("%s %s\n", good ? "ok  " : "FAIL", cases[i].name);
        if (!report) continue;
        fprintf(report, "  <testcase classname=\"words\" name=\"%s\">", cases[i].name);
        if (!good) fprintf(report, "<failure>%zu words, longest %zu</failure>", words, longest);
        fputs("</testcase>\n", report);
    }
    if (report && (fputs("</testsuite>\n", report) < 0 || fclose(report))) return 2;
    return failures ? 1 : 0;
}
