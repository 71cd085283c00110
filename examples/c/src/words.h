#ifndef WORDS_H
#define WORDS_H

#include <stddef.h>

/* Words of a text: runs of anything but white space. */
size_t count_words(const char *text);

/* Length of the longest word, in bytes. */
size_t longest_word(const char *text);

#endif
