/** Says how far the reading of a base model is, in tenths: a large one takes minutes. */
export function loadingLog(say: (line: string) => void): (progress: { readBytes: number; totalBytes: number }) => void {
  let saidTenths = 0;
  return ({ readBytes, totalBytes }) => {
    const tenths = Math.floor((10 * readBytes) / totalBytes);
    // The next job on another model begins again.
    if (tenths < saidTenths) saidTenths = 0;
    if (tenths === saidTenths) return;
    saidTenths = tenths;
    say(`base model: ${10 * tenths} % of ${(totalBytes / 1e9).toFixed(1)} GB read`);
  };
}
