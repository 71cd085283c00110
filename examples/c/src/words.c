#include "words.h"

#include <ctype.h>

size_t count_words(const char *text) {
    size_t count = 0;
    int inside = 0;
    for (; *text; text++) {
        int space = isspace((unsigned char)*text);
        if (!space && !inside) count++;
        inside = !space;
    }
    return count;
}

size_t longest_word(const char *text) {
    size_t longest = 0, length = 0;
    for (; *text; text++) {
        length = isspace((unsigned char)*text) ? 0 : length + 1;
        if (length > longest) longest = length;
    }
    return longest;
}
