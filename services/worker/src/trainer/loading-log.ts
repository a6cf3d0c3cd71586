/** Logs how far the loading of a base model is, in tenths: a large one takes minutes. */
export function loadingLog(log: (line: string) => void): (progress: { readBytes: number; totalBytes: number }) => void {
  let loggedTenths = 0;
  return ({ readBytes, totalBytes }) => {
    const tenths = Math.floor((10 * readBytes) / totalBytes);
    // Another model starts at 0 again.
    if (tenths < loggedTenths) loggedTenths = 0;
    if (tenths === loggedTenths) return;
    loggedTenths = tenths;
    log(`base model: ${10 * tenths} % of ${(totalBytes / 1e9).toFixed(1)} GB read`);
  };
}
