import { type Browser, type BrowserContextOptions, chromium, type Locator, type Page } from 'playwright-core';
import { findBrowser } from '../../scripts/setup/browser.mjs';
import { cacheDir } from '../../scripts/setup/locations.mjs';

/** Longer than anything takes on a busy machine. A wait that ends here is a failure. */
export const TIMEOUT_MS = 120_000;

/** A tab that notes everything that must not happen in it. */
export interface WatchedPage {
  page: Page;
  /** Goes to a route, such as `/jobs`, by the address. */
  open(route: string): Promise<void>;
  /** The addresses of all requests so far. */
  requests: string[];
  /**
   * The faults so far: errors and warnings of the console, uncaught errors, dialogs, violations of the content security
   * policy, requests to another origin. Reading it empties it.
   */
  faults(): Promise<string[]>;
  close(): Promise<void>;
}

/** Chromium, as set-up finds it. @param environment - Variables that it gets; undefined: it does not get that one */
export async function launchBrowser(environment: NodeJS.ProcessEnv = {}): Promise<Browser> {
  const { file, env } = await findBrowser({
    cache: cacheDir(process.env),
    env: process.env,
    progress: { update() {} },
  });
  return await chromium.launch({
    executablePath: file,
    env: { ...process.env, ...env, ...environment } as Record<string, string>,
  });
}

/** @param url - The address of the page; requests to another origin are faults */
export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<WatchedPage> {
  const context = await browser.newContext({ timezoneId: 'UTC', acceptDownloads: true, ...options });
  context.setDefaultTimeout(TIMEOUT_MS);
  const faults: string[] = [];
  const requests: string[] = [];
  const origin = new URL(url).origin;
  await context.exposeBinding('noteFault', (_, what: string) => void faults.push(what));
  // A violation is reported to the page; the console says it only for some.
  await context.addInitScript(`document.addEventListener('securitypolicyviolation', (event) => {
    noteFault('policy: ' + event.violatedDirective + ' ' + event.blockedURI + ' ' + event.sample);
  })`);
  const page = await context.newPage();
  page.on('console', (message) => {
    if (['error', 'warning', 'assert'].includes(message.type())) faults.push(`console: ${message.text()}`);
  });
  page.on('pageerror', (error) => faults.push(`uncaught: ${error.message}`));
  page.on('crash', () => faults.push('the tab crashed'));
  page.on('dialog', (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('request', (request) => {
    requests.push(request.url());
    if (!request.url().startsWith(`${origin}/`) && !request.url().startsWith('blob:')) {
      faults.push(`request to another origin: ${request.url()}`);
    }
  });
  return {
    page,
    requests,
    async open(route) {
      await page.goto(`${url}#${route}`);
    },
    async faults() {
      // What the page has noted arrives before the answer to this.
      await page.evaluate(() => undefined);
      return faults.splice(0);
    },
    close: () => context.close(),
  };
}

/** Drags a file from outside of the browser to the middle of an element, and drops it there. */
export async function dropFile(target: Locator, file: string): Promise<void> {
  await target.scrollIntoViewIfNeeded();
  const { x, y, width, height } = (await target.boundingBox())!;
  const devtools = await target.page().context().newCDPSession(target.page());
  const at = { x: x + width / 2, y: y + height / 2 };
  const data = { items: [], files: [file], dragOperationsMask: 1 };
  for (const type of ['dragEnter', 'dragOver', 'drop'] as const) {
    await devtools.send('Input.dispatchDragEvent', { type, ...at, data });
  }
  await devtools.detach();
}
