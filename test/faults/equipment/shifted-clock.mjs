// Test equipment, loaded into a program with `node --import`: its clock is off by the milliseconds in the file
// CLOCK_SHIFT_FILE, which is read twenty times a second. Timers use another clock and do not notice, as with a real jump.
import { readFileSync } from 'node:fs';

const file = process.env.CLOCK_SHIFT_FILE;

if (file !== undefined) {
  const RealDate = Date;
  const realNow = Date.now.bind(Date);
  let shiftMs = 0;
  const look = () => {
    try {
      shiftMs = Number(readFileSync(file, 'utf8')) || 0;
    } catch {
      // There is no shift now.
      shiftMs = 0;
    }
  };
  look();
  setInterval(look, 50).unref();
  const now = () => realNow() + shiftMs;
  globalThis.Date = new Proxy(RealDate, {
    construct: (target, args, newTarget) =>
      Reflect.construct(target, args.length === 0 ? [now()] : args, newTarget === globalThis.Date ? target : newTarget),
    apply: () => new RealDate(now()).toString(),
    get: (target, name) => (name === 'now' ? now : Reflect.get(target, name)),
  });
}
