import { useEffect, useMemo, useState } from 'preact/hooks';
import { useStore } from '../store.js';
import { theme } from '../theme.js';

export interface ChartColors {
  text: string;
  grid: string;
  series: (number: number) => string;
  /** The same colour for a thin line behind another. */
  faint: (number: number) => string;
  /** The same colour for a band behind a line. */
  band: (number: number) => string;
}

/** The colours of the page as a canvas takes them, which change with the theme. */
export function useColors(): ChartColors {
  const chosen = useStore(theme);
  const [systemIsDark, setDark] = useState(DARK.matches);
  useEffect(() => {
    const update = () => setDark(DARK.matches);
    DARK.addEventListener('change', update);
    return () => DARK.removeEventListener('change', update);
  }, []);
  return useMemo(
    () => ({
      text: colorOf('--muted'),
      grid: colorOf('--line'),
      series: (number) => colorOf(`--series-${number}`),
      faint: (number) => withOpacity(colorOf(`--series-${number}`), 0.4),
      band: (number) => withOpacity(colorOf(`--series-${number}`), 0.18),
    }),
    [chosen, systemIsDark],
  );
}

function withOpacity(color: string, opacity: number): string {
  return color.replace(/^rgb\((.*)\)$/, `rgba($1, ${opacity})`);
}

const DARK = window.matchMedia('(prefers-color-scheme: dark)');

/** A property can be `light-dark(…)`; the colour of an element is what it is now. */
function colorOf(property: string): string {
  const probe = document.createElement('span');
  probe.style.color = `var(${property})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}
