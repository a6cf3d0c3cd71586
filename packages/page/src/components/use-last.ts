import { useRef } from 'preact/hooks';

/** The value, or the last one while the next is read: a list stays in sight until its successor is there. */
export function useLast<Value>(value: Value | undefined): Value | undefined {
  const last = useRef(value);
  if (value !== undefined) last.current = value;
  return last.current;
}
