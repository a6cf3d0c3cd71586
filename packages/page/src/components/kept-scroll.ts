import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';

/** The entry of the history has the place, so only going back or forth to it returns there. */
interface ScrollState {
  scrollY?: number;
}

/** The time after the last movement until the place is noted: browsers refuse to note too often. */
const PAUSE_MS = 100;

/**
 * Returns to where a list was scrolled when its user comes back to it by the history; another page of it begins at its top. The browser itself tries before
 * the list has its content.
 * @param page - Names the page of the list.
 * @param isLoaded - Whether its content is there.
 */
export function useKeptScroll(page: string, isLoaded: boolean): void {
  const wanted = useRef<number | null>(null);
  const isFirst = useRef(true);
  useLayoutEffect(() => {
    wanted.current = (window.history.state as ScrollState | null)?.scrollY ?? (isFirst.current ? null : 0);
    isFirst.current = false;
  }, [page]);
  useLayoutEffect(() => {
    if (!isLoaded || wanted.current === null) return undefined;
    const place = wanted.current;
    wanted.current = null;
    return reachPlace(place);
  }, [page, isLoaded]);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const note = () => window.history.replaceState({ scrollY: window.scrollY } satisfies ScrollState, '');
    const noteSoon = () => {
      clearTimeout(timer);
      timer = setTimeout(note, PAUSE_MS);
    };
    window.addEventListener('scroll', noteSoon, { passive: true });
    return () => {
      clearTimeout(timer);
      window.removeEventListener('scroll', noteSoon);
    };
  }, []);
}

/** Events of the user that end the return to an earlier place. */
const OF_USER = ['wheel', 'touchstart', 'pointerdown', 'keydown'] as const;

/** Scrolls to a place, also if the content only grows there. @returns a function that ends it */
function reachPlace(place: number): () => void {
  const growth = new ResizeObserver(() => move());
  const end = () => {
    growth.disconnect();
    for (const type of OF_USER) window.removeEventListener(type, end);
  };
  const move = () => {
    window.scrollTo(0, place);
    if (Math.abs(window.scrollY - place) < 1) end();
  };
  growth.observe(document.body);
  for (const type of OF_USER) window.addEventListener(type, end, { passive: true });
  move();
  return end;
}
