import type { Browser } from 'playwright-core';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { page, stack, usePage } from './use-page.js';
import { launchBrowser, openPage, TIMEOUT_MS } from './watched-page.js';

// Whether the page starts: in every locale of the machine, and what it says if it cannot.

vi.setConfig({ testTimeout: 3 * TIMEOUT_MS });

usePage({ worker: false });

const NO_LOCALE = { LANG: undefined, LC_ALL: undefined, LANGUAGE: undefined };

describe.each([
  ['no locale', {}],
  ['LANG=C', { LANG: 'C' }],
  ['LC_ALL=POSIX', { LC_ALL: 'POSIX' }],
  ['LANG=C.UTF-8', { LANG: 'C.UTF-8' }],
  ['LANG=en_US.UTF-8', { LANG: 'en_US.UTF-8' }],
  ['LANG=de_DE.UTF-8, LANGUAGE=de', { LANG: 'de_DE.UTF-8', LANGUAGE: 'de' }],
])('the page starts on a machine with %s', (_, environment) => {
  let browser: Browser | undefined;
  afterEach(() => browser?.close());

  test('the page starts', async () => {
    browser = await launchBrowser({ ...NO_LOCALE, ...environment });
    const tab = await openPage(browser, stack.url);
    await tab.open('/jobs');
    await tab.page.getByText('There are no jobs yet.').waitFor();
    expect(await tab.page.locator('#not-started').count()).toBe(0);
    await tab.open('/machines');
    await tab.page.getByRole('heading', { level: 1, name: 'Machines' }).waitFor();
    expect(await tab.page.evaluate('(1234.5).toLocaleString(navigator.language).length')).toBe(7);
    expect(await tab.faults()).toEqual([]);
  });
});

describe('a page that cannot start says so', () => {
  const SCRIPT = /\/assets\/[^/]*\.js$/;
  const says = async (at: typeof page) => {
    await at.getByRole('heading', { level: 1, name: 'The page of Lorasmith has not started' }).waitFor();
    await at.getByRole('link', { name: 'documentation of its API' }).waitFor();
  };
  afterEach(() => page.unroute(SCRIPT));

  test('a page whose script is not loaded says so', async () => {
    await page.route(SCRIPT, (route) => route.abort());
    await page.goto(stack.url);
    await says(page);
  });

  test.each([
    ['fails', 'throw new Error("an error of this test")'],
    ['is not understood by the browser', 'let = = 1;'],
  ])('a page whose script %s says so', async (_, body) => {
    await page.route(SCRIPT, (route) => route.fulfill({ contentType: 'text/javascript', body }));
    await page.goto(stack.url);
    await says(page);
  });

  test('a page without JavaScript says so', async () => {
    const context = await page.context().browser()!.newContext({ javaScriptEnabled: false });
    const bare = await context.newPage();
    await bare.goto(stack.url);
    await says(bare);
    await context.close();
  });
});
