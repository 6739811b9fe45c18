/* One cluster and one browser for all tests; a test leaves nothing running and no trouble in its page. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { BrowserContextOptions } from 'playwright-core';
import { closeBrowser, Cluster, openTab, type Tab } from './bed.ts';

export let cluster: Cluster;

before(async () => {
  cluster = await Cluster.start();
});

after(async () => {
  await closeBrowser();
  await cluster?.stop();
});

/** Something that tests stand on; it runs also when only some tests are asked for. */
export function step(name: string, body: () => Promise<unknown>): void {
  void test(`(${name})`, { timeout: 60000 }, async () => void (await body()));
}

/** A test with a page at this path. It fails also when the page had any trouble. */
export function pageTest(name: string, path: string, body: (tab: Tab) => Promise<void>, options: BrowserContextOptions = {}): void {
  void test(name, { timeout: 60000 }, async () => {
    const tab = await openTab(cluster.url + path, options);
    try {
      await body(tab);
      assert.deepEqual(tab.troubles, []);
    } finally {
      await tab.context.close();
    }
  });
}
