/* The cluster (tests/web/bed.py) and the browser that all tests share, and what goes wrong in any page. */
import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Page } from 'playwright-core';
import { spawn, type ChildProcess } from 'node:child_process';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';

const ROOT = process.env['KR_ROOT'] ?? join(dirname(new URL(import.meta.url).pathname), '../../../..');

export class Cluster {
  private readonly child: ChildProcess;
  private readonly waiting: { resolve: (line: string) => void; reject: (why: Error) => void }[] = [];
  url = '';

  private constructor() {
    this.child = spawn('/usr/bin/python3', [join(ROOT, 'tests/web/bed.py')], { stdio: ['pipe', 'pipe', process.env['VERBOSE'] ? 'inherit' : 'ignore'] });
    createInterface({ input: this.child.stdout! }).on('line', (line) => this.waiting.shift()?.resolve(line));
    this.child.once('exit', () => this.waiting.splice(0).forEach(({ reject }) => reject(new Error('the cluster has ended'))));
  }

  static async start(): Promise<Cluster> {
    const cluster = new Cluster();
    const first = await cluster.answer();
    if (first['skip']) throw new Error(`the cluster cannot run here: ${String(first['skip'])}`);
    cluster.url = first['result'] as string;
    return cluster;
  }

  private async answer(): Promise<Record<string, unknown>> {
    const line = await new Promise<string>((resolve, reject) => this.waiting.push({ resolve, reject }));
    return JSON.parse(line) as Record<string, unknown>;
  }

  /** One order to the bed; `options` are named arguments. */
  async do<T = unknown>(name: string, args: unknown[] = [], options: object = {}): Promise<T> {
    const answer = this.answer();
    this.child.stdin!.write(JSON.stringify({ do: name, args, with: options }) + '\n');
    const { result, error } = await answer;
    if (error) throw new Error(String(error));
    return result as T;
  }

  submit(target: string, command: string[], options: string[] = []): Promise<number> {
    return this.do('submit', [target, ...command], { options });
  }

  async api<T>(path: string, body?: unknown): Promise<T> {
    const init = body === undefined ? {} : { method: 'POST', body: JSON.stringify(body), headers: { 'Content-Type': 'application/json' } };
    const response = await fetch(`${this.url}/api/v1${path}`, init);
    return (await response.json()) as T;
  }

  async stop(): Promise<void> {
    const gone = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.stdin!.end();
    await gone;
  }
}

let browser: Browser | undefined;

export async function openBrowser(): Promise<Browser> {
  // Debian's Chromium; root has no sandbox.
  browser ??= await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-dev-shm-usage'] });
  return browser;
}

export async function closeBrowser(): Promise<void> {
  await browser?.close();
  browser = undefined;
}

export interface Tab {
  page: Page;
  context: BrowserContext;
  /** Script errors, violations of the policy, dialogs: none of them may ever come. */
  troubles: string[];
}

/** A new browser context with one page; its troubles are collected from the first moment. */
export async function openTab(url: string, options: BrowserContextOptions = {}): Promise<Tab> {
  const context = await (await openBrowser()).newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const troubles: string[] = [];
  watch(page, troubles);
  await page.goto(url);
  return { page, context, troubles };
}

export function watch(page: Page, troubles: string[]): void {
  page.setDefaultTimeout(10000);
  page.on('pageerror', (error) => troubles.push(`error: ${error.message}`));
  page.on('dialog', (dialog) => {
    troubles.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('console', (message) => {
    // An answer that is an error is part of many tests; what a script or the policy complains of is not.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) troubles.push(`console: ${message.text()}`);
  });
}

/** A width and a script that make trouble visible: everything in the page that is wider than the window. */
export function tooWide(page: Page): Promise<string[]> {
  return page.evaluate(() => {
    const root = document.documentElement;
    if (root.scrollWidth <= root.clientWidth) return [];
    return [...document.querySelectorAll('main *, header *')]
      .filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1)
      .slice(0, 5)
      .map((e) => `${e.tagName}.${e.className} reaches ${Math.round(e.getBoundingClientRect().right)} of ${root.clientWidth}`);
  });
}
