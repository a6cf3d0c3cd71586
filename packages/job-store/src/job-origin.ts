/** Where a job came from, so that what its worker does can be found from the request that sent it. */
export interface JobOrigin {
  /** Id of the HTTP request; null when it is not known. */
  requestId: string | null;
  /** Headers that name the span of the request (W3C Trace Context); empty when nothing was traced. */
  trace: Readonly<Record<string, string>>;
}

/** As fields and values of a job's hash. */
export function originFields({ requestId, trace }: Partial<JobOrigin> = {}): string[] {
  return [
    ...(requestId ? ['request_id', requestId] : []),
    ...(trace && Object.keys(trace).length > 0 ? ['trace', JSON.stringify(trace)] : []),
  ];
}

/** Of a hash as Redis returns it. */
export function originOfRecord(hash: Readonly<Record<string, string>>): JobOrigin {
  const { request_id: requestId = null, trace } = hash;
  return { requestId, trace: trace === undefined ? {} : (JSON.parse(trace) as Record<string, string>) };
}
