import { request } from 'node:http';

/** An upload of a dataset of which the first half has been sent. */
export interface SlowUpload {
  /** Sends the rest. */
  finish(): void;
  /** The status of the answer; null when the connection broke before there was one. */
  status: Promise<number | null>;
}

export function beginUpload(apiUrl: string, text: string): SlowUpload {
  const half = text.lastIndexOf('\n', text.length / 2) + 1;
  const sending = request(`${apiUrl}/datasets`, {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
  });
  const status = new Promise<number | null>((resolve) => {
    sending.once('response', (answer) => {
      answer.resume();
      resolve(answer.statusCode ?? null);
    });
    sending.once('error', () => resolve(null));
  });
  sending.write(text.slice(0, half));
  return { finish: () => void sending.end(text.slice(half)), status };
}
