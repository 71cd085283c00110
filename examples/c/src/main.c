#include "words.h"

#include <stdio.h>

int main(void) {
    char line[4096];
    size_t words = 0, longest = 0;
    while (fgets(line, sizeof line, stdin)) {
        size_t here = longest_word(line);
        words += count_words(line);
        if (here > longest) longest = here;
    }
    printf("%zu words, the longest has %zu bytes\n", words, longest);
    return 0;
}
