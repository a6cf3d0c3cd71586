import { createStore, type Store } from './store.js';

export const THEMES = ['system', 'light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

const STORAGE_KEY = 'lorasmith-theme';

export const theme: Store<Theme> = createStore(storedTheme());

export function chooseTheme(chosen: Theme): void {
  try {
    window.localStorage.setItem(STORAGE_KEY, chosen);
  } catch {
    // It then lasts until the next reload.
  }
  theme.set(chosen);
  applyTheme();
}

export function applyTheme(): void {
  document.documentElement.dataset.theme = theme.get();
}

function storedTheme(): Theme {
  try {
    const stored = window.localStorage.getItem(STORAGE_KEY);
    return THEMES.find((one) => one === stored) ?? 'system';
  } catch {
    return 'system';
  }
}
