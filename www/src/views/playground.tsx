export function Playground(_: { params: URLSearchParams }) {
  return <h1>Playground</h1>;
}
