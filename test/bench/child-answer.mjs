import { once } from 'node:events';

/**
 * The next message of a child process. It leaves no listener behind, so a child may be asked any number of times.
 *
 * @param {import('node:child_process').ChildProcess} child
 * @param {string} name what the child is, for the error
 * @returns {Promise<any>}
 * @throws {Error} when the child ends first
 */
export async function childAnswer(child, name) {
  const end = new AbortController();
  const { signal } = end;
  try {
    const exited = once(child, 'exit', { signal }).then(([code]) => {
      throw new Error(`${name} ended with exit code ${code}`);
    });
    const [answer] = await Promise.race([once(child, 'message', { signal }), exited]);
    return answer;
  } finally {
    end.abort();
  }
}
