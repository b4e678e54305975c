%% @private
%% @doc Keeps the tables of dp_kv scopes, so that a scope that is started again after it has crashed, was
%% killed or was stopped finds its node's own keys.
%%
%% A table is named as its scope. It's public only because its owner isn't the one who writes it: nobody but
%% the scope's process does, and that is gone for good when its name is free for the next one.
-module(dp_kv_keeper).
-behaviour(gen_server).

-export([table/1, drop/1]).
-export([init/1, handle_call/3, handle_cast/2]).

%% The table of a scope, made when it isn't there. Raises `badarg' if the name is taken by a table of
%% somebody else.
-spec table(atom()) -> ets:table().
table(Scope) ->
    case call({table, Scope}) of
        {ok, Table} -> Table;
        {error, badarg} -> error(badarg, [Scope])
    end.

%% Deletes the table of a scope, if it has one.
-spec drop(atom()) -> ok.
drop(Scope) ->
    call({drop, Scope}).

call(Request) ->
    case gen_server:start({local, ?MODULE}, ?MODULE, [], []) of
        {ok, _} -> ok;
        {error, {already_started, _}} -> ok
    end,
    gen_server:call(?MODULE, Request, infinity).

%% @private
init([]) ->
    %% It outlives the application that happens to have started it: processes end with their group leader.
    true = group_leader(whereis(init), self()),
    {ok, []}.

%% @private
handle_call({table, Scope}, _From, State) ->
    Keeper = self(),
    Reply =
        case ets:info(Scope, owner) of
            undefined -> {ok, ets:new(Scope, [named_table, public, {read_concurrency, true}])};
            Keeper -> {ok, Scope};
            _ -> {error, badarg}
        end,
    {reply, Reply, State};
handle_call({drop, Scope}, _From, State) ->
    case ets:info(Scope, owner) of
        Keeper when Keeper =:= self() -> ets:delete(Scope);
        _ -> true
    end,
    {reply, ok, State}.

%% @private
handle_cast(_Message, State) ->
    {noreply, State}.
