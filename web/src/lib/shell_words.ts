/* Words as a POSIX shell reads and writes them, without any expansion. */

/** One word that a shell reads back as it is. */
export function quoteWord(word: string): string {
  if (/^[A-Za-z0-9_@%+=:,./-]+$/.test(word)) return word;
  return "'" + word.replaceAll("'", "'\\''") + "'";
}

export function quoteWords(words: readonly string[]): string {
  return words.map(quoteWord).join(' ');
}

export type Split = { words: string[]; problem?: string; needsShell?: string };

const SHELL_ONLY = /[|&;<>()$`*?#~\n]/;

/**
 * Splits a line into words: quotes and backslashes mean what they mean in a shell. `problem`: it cannot be split.
 * `needsShell`: an unquoted character that only a shell would give a meaning; here it is passed on as it is.
 */
export function splitWords(line: string): Split {
  const words: string[] = [];
  let word: string | undefined;
  let needsShell: string | undefined;
  for (let i = 0; i < line.length; i++) {
    const c = line[i]!;
    if (c === "'" || c === '"') {
      const quoted = readQuoted(line, i, c);
      if (!quoted) return { words, problem: `a ${c === '"' ? 'double' : 'single'} quote is not closed` };
      word = (word ?? '') + quoted.text;
      i = quoted.end;
    } else if (c === '\\') {
      if (i + 1 === line.length) return { words, problem: 'a backslash at the end has nothing to quote' };
      word = (word ?? '') + line[++i]!.replace('\n', '');
    } else if (/\s/.test(c)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else {
      if (SHELL_ONLY.test(c)) needsShell ??= c;
      word = (word ?? '') + c;
    }
  }
  if (word !== undefined) words.push(word);
  return needsShell === undefined ? { words } : { words, needsShell };
}

function readQuoted(line: string, start: number, quote: string): { text: string; end: number } | undefined {
  let text = '';
  for (let i = start + 1; i < line.length; i++) {
    const c = line[i]!;
    if (c === quote) return { text, end: i };
    if (c === '\\' && quote === '"' && '"\\$`'.includes(line[i + 1] ?? ' ')) text += line[++i]!;
    else text += c;
  }
  return undefined;
}
