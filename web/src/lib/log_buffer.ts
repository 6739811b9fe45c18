/* The end of a log, as lines: at most so many characters are kept, what is older is counted and let go. */

const ESCAPES = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])/g;
const CONTROLS = /[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]/g;

/** A line as a terminal would leave it: colours away, and of what was written over with \r the last. */
export function plainLine(line: string): string {
  const plain = line.replace(ESCAPES, '').replace(/\r+$/, '');
  const last = plain.lastIndexOf('\r');
  return (last < 0 ? plain : plain.slice(last + 1)).replace(CONTROLS, '\ufffd');
}

export class LogBuffer {
  lines: string[] = [];
  /** How many lines were let go: the number of lines[0] is dropped + 1. */
  dropped = 0;
  private size = 0;
  private open = '';
  private readonly decoder = new TextDecoder();

  constructor(
    private readonly maxChars = 8 * 1024 * 1024,
    private readonly maxLine = 16 * 1024,
  ) {}

  /** The last line when it has no end yet. */
  get tail(): string {
    return plainLine(this.open);
  }

  push(bytes: Uint8Array): void {
    const parts = (this.open + this.decoder.decode(bytes, { stream: true })).split('\n');
    this.open = parts.pop()!;
    for (const part of parts) this.add(part);
    while (this.open.length > this.maxLine) {
      this.add(this.open.slice(0, this.maxLine));
      this.open = this.open.slice(this.maxLine);
    }
    this.trim();
  }

  private add(raw: string): void {
    for (let at = 0; at === 0 || at < raw.length; at += this.maxLine) {
      const line = plainLine(raw.slice(at, at + this.maxLine));
      this.lines.push(line);
      this.size += line.length + 1;
    }
  }

  private trim(): void {
    if (this.size <= this.maxChars) return;
    let n = 0;
    while (this.size > this.maxChars * 0.9 && n < this.lines.length - 1) this.size -= this.lines[n++]!.length + 1;
    this.lines.splice(0, n);
    this.dropped += n;
  }

  /** Places of a text, without regard to case. */
  find(text: string, limit = 10000): number[] {
    const wanted = text.toLowerCase();
    const found: number[] = [];
    if (!wanted) return found;
    for (let i = 0; i < this.lines.length && found.length < limit; i++) {
      if (this.lines[i]!.toLowerCase().includes(wanted)) found.push(i);
    }
    return found;
  }
}
