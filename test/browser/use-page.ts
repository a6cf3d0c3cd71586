import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import { type PageStack, startPageStack } from './page-stack.js';
import { launchBrowser, openPage, type WatchedPage } from './watched-page.js';

/** The complete product, one per test file, and a browser with a tab. */
export let stack: PageStack;
export let browser: Browser;
export let tab: WatchedPage;
export let page: Page;

export interface UsePageOptions {
  /** True if jobs are trained. @defaultValue true */
  worker?: boolean;
  /** Further settings of the services, read after the hooks that the file has registered before. */
  env?: () => NodeJS.ProcessEnv;
  /** The permissions of the tab. */
  permissions?: BrowserContextOptions['permissions'];
}

/** Starts {@link stack}, {@link browser} and {@link tab} before the tests of a file, and stops them after them. */
export function usePage({ worker = true, env = () => ({}), permissions = [] }: UsePageOptions = {}): void {
  beforeAll(async () => {
    const starting = await Promise.allSettled([
      startPageStack({ worker, env: env() }).then((started) => (stack = started)),
      launchBrowser().then((started) => (browser = started)),
    ]);
    for (const part of starting) if (part.status === 'rejected') throw part.reason;
    tab = await openPage(browser, stack.url, { permissions });
    page = tab.page;
  });
  afterAll(async () => {
    await browser?.close();
    await stack?.stop();
  });
}

/** The heading of the view. */
export const heading = (name: string) => page.getByRole('heading', { level: 1, name, exact: true });
/** A figure, by its title. */
export const figure = (name: string) => page.getByRole('figure', { name, exact: true });
/** Opens a group of settings in the form. */
export const unfold = (group: string) => page.locator('summary', { hasText: group }).click();

/** The line of Chromium's console about an answer with one of these status codes. */
export const refusedWith = (...codes: number[]) =>
  new RegExp(`^console: Failed to load resource: the server responded with a status of (${codes.join('|')}) `);

/** Checks after each test that passed that the tab saw no fault but such. */
export function expectFaults(expected: RegExp): void {
  afterEach(async ({ task }) => {
    const faults = await tab.faults();
    if (task.result?.state === 'pass') expect(faults.filter((fault) => !expected.test(fault))).toEqual([]);
  });
}
