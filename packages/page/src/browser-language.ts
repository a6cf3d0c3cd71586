// Where no locale is set (LANG unset, C or POSIX), Chromium's language is `en-US@posix`. That is no language tag, so Intl refuses it.
// uPlot passes the language to Intl when it is loaded, and nothing would be shown. So this file is imported before everything else.

if (!isLanguageTag(navigator.language)) {
  Object.defineProperty(navigator, 'language', { value: 'en-US', configurable: true });
}

function isLanguageTag(text: string): boolean {
  try {
    return Intl.getCanonicalLocales(text).length > 0;
  } catch {
    return false;
  }
}

export {};
