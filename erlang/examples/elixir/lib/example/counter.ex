defmodule Example.Counter do
  @moduledoc """
  The client of a counter that is a `GenServer` in Rust, `integration/examples/counter.rs`. For us it's one
  as any other, registered as `:counter` on its node.
  """

  @doc "Adds to the counter: `{:ok, count}`, or `{:error, {:limit, limit}}` beyond the setting `:limit`."
  def add(node, number) when is_integer(number), do: GenServer.call(server(node), {:add, number})

  @doc "What it stands at."
  def get(node), do: GenServer.call(server(node), :get)

  @doc "Sets it to 0, without waiting for that."
  def reset(node), do: GenServer.cast(server(node), :reset)

  defp server(node), do: {:counter, node}
end
