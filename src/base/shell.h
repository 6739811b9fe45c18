#pragma once
/* Words as a shell would have to read them, for showing commands to people; nothing here runs one. */

#include <glib.h>

/* Appends the word, in quotes where a shell needs them; a space before it unless it is the first. */
void shell_add_word(GString *text, const char *word);
